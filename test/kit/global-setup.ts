/**
 * One Azurite for the whole run of vitest. It starts in a fraction of the time of the first test file that needs it and
 * ends with the run; test files take containers of their own from `azurite.ts`.
 */
import type { TestProject } from 'vitest/node';
import { startAzurite } from '../../src/local/azurite.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    azuriteConnectionString: string;
  }
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const azurite = await startAzurite({ blobPort: 0, queuePort: 0 });
  project.provide('azuriteConnectionString', azurite.connectionString);
  return () => azurite.stop();
}

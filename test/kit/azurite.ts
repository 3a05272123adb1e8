/**
 * Azurite for tests. The run shares one instance (`global-setup.ts`); what a test stores is kept apart by names that no
 * other test uses. A test that stops, restarts or breaks its Azurite starts one of its own with `startAzurite`.
 */
import { randomBytes } from 'node:crypto';
import { inject } from 'vitest';
import { type Azurite, startAzurite as startLocalAzurite } from '../../src/local/azurite.ts';

/** An Azurite of the test's own, on free ports; in memory unless a folder is given. Stop it. */
export function startAzurite(options: { dataFolder?: string } = {}): Promise<Azurite> {
  return startLocalAzurite({ ...options, blobPort: 0, queuePort: 0 });
}

/** The connection string of the Azurite that the whole run shares. */
export function azuriteConnectionString(): string {
  return inject('azuriteConnectionString');
}

/** A name for a container, queue or repository that nothing else in this run has: letters and digits, at most 40. */
export function uniqueName(prefix = 'test'): string {
  return `${prefix}-${randomBytes(8).toString('hex')}`;
}

/** The stages of the demo on the terminal: a line with the time for each that is done, and progress within the current. */
import { formatSeconds } from '../../cli/format.ts';
import type { Output } from '../../cli/output.ts';

const NAME_COLUMNS = 24;
const SECONDS_COLUMNS = 8;

export interface Stages {
  /** Does the work as a stage; `about` says in a few words what came of it. */
  run<T>(
    name: string,
    work: (progress: (text: string) => void) => Promise<T>,
    about: (result: T) => string,
  ): Promise<T>;
}

export function createStages(output: Output): Stages {
  return {
    async run(name, work, about) {
      const startedAt = performance.now();
      const progress = (text: string): void => output.progress(() => `  ${name.padEnd(NAME_COLUMNS)} ${text}`);
      progress('…');
      const result = await work(progress);
      const seconds = formatSeconds((performance.now() - startedAt) / 1000).padStart(SECONDS_COLUMNS);
      await output.line(`  ${name.padEnd(NAME_COLUMNS)} ${seconds}   ${about(result)}`);
      await output.flush();
      return result;
    },
  };
}

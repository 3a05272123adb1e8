/**
 * A process of the kill test: appends to a journal, or clears it up, until it is killed. It says on stdout what was
 * acknowledged, a path a line.
 */
import { openJournal } from '../../src/journal/journal.ts';
import { connectStorage } from '../../src/storage/connect.ts';

const { JOURNAL_STORAGE = '', JOURNAL_CONTAINER = '', JOURNAL_ROLE = '', JOURNAL_NAME = '' } = process.env;
const state = connectStorage({ connectionString: JOURNAL_STORAGE }).container(JOURNAL_CONTAINER);
const journal = openJournal(state, 'photos', { recordsMax: 40, uploadBytesMax: 1_000_000, ageSecondsMax: 60 });

async function append(lane: number): Promise<never> {
  for (let at = 0; ; at += 1) {
    const path = `${JOURNAL_NAME}/${lane}/${at}`;
    await journal.append([{ kind: 'upload', path, etag: '"1"', bytes: 1 }]);
    process.stdout.write(`${path}\n`);
  }
}

async function clearUp(): Promise<never> {
  for (let round = 0; ; round += 1) {
    await journal.sealDue({ force: true });
    await journal.compact({ isIdle: () => true });
    process.stdout.write(`round ${round}\n`);
  }
}

await Promise.all(JOURNAL_ROLE === 'append' ? [0, 1, 2, 3].map(append) : [clearUp()]);

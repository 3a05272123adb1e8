/** The journals of a process, one a source, so that all who append to a source share its blocks and what is known of it. */
import type { BlobStore } from '../storage/blob-store.ts';
import { type Journal, openJournal } from './journal.ts';
import type { JournalSettings } from './journal-parts.ts';

/** Sources in use at once; the others are opened again when they are needed. */
const JOURNALS_MAX = 1000;

export interface Journals extends AsyncDisposable {
  /** @throws FIRN_SOURCE_NAME_INVALID. */
  of(source: string): Journal;
  /** Closes all that are open: what they took is durable, or its callers were told why not. */
  close(): Promise<void>;
}

export function createJournals(
  state: BlobStore,
  settings: JournalSettings,
  options: { readonly now?: () => Date } = {},
): Journals {
  const open = new Map<string, Journal>();
  const close = async () => {
    await Promise.all(open.values().map((journal) => journal.close()));
  };
  return {
    close,
    [Symbol.asyncDispose]: close,
    of(source) {
      const journal = open.get(source) ?? openJournal(state, source, settings, options);
      open.delete(source);
      open.set(source, journal);
      const [oldest] = open.keys();
      if (open.size > JOURNALS_MAX && oldest !== undefined) open.delete(oldest);
      return journal;
    },
  };
}

/** The journals of a process, one a source, so that all who append to a source share its blocks and what is known of it. */
import type { BlobStore } from '../storage/blob-store.ts';
import { type Journal, type JournalSettings, openJournal } from './journal.ts';

/** Sources in use at once; the others are opened again when they are needed. */
const JOURNALS_MAX = 1000;

export interface Journals {
  /** @throws FIRN_SOURCE_NAME_INVALID. */
  of(source: string): Journal;
}

export function createJournals(
  state: BlobStore,
  settings: JournalSettings,
  options: { readonly now?: () => Date } = {},
): Journals {
  const open = new Map<string, Journal>();
  return {
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

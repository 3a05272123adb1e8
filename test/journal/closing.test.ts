import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import { openJournal } from '../../src/journal/journal.ts';
import { createJournals } from '../../src/journal/journals.ts';
import { openInbox } from '../../src/repository.ts';
import { readSettings } from '../../src/settings.ts';
import { createMemoryAccount, createMemoryBlobStore } from '../kit/memory-blob-store.ts';
import { allPaths, collectGarbage, intercepted, settings, upload } from './journal-kit.ts';

const names = (count: number) => Array.from({ length: count }, (_, at) => `file ${at}`);

describe('closing a journal', () => {
  it('resolves when everything that was accepted before is durable', async () => {
    const state = createMemoryBlobStore();
    const journal = openJournal(state, 'photos', { ...settings, recordsMax: 7 });
    for (const name of names(50)) void journal.append([upload(name)]);
    await journal.close();
    expect(await allPaths(openJournal(state, 'photos', settings))).toEqual(names(50));
  });

  it('waits for a storage that is slow for as long as it takes', async () => {
    let release: (() => void) | undefined;
    const state = createMemoryBlobStore();
    const slow = intercepted(state, {
      instead: async (call) => {
        if (call === 'append') await new Promise<void>((resolve) => (release = resolve));
        return undefined;
      },
    });
    const journal = openJournal(slow, 'photos', settings);
    void journal.append([upload('a')]);
    let closed = false;
    const closing = journal.close().then(() => {
      closed = true;
    });
    await expect.poll(() => release).toBeDefined();
    expect(closed).toBe(false);
    release?.();
    await closing;
    expect(await allPaths(openJournal(state, 'photos', settings))).toEqual(['a']);
  });

  it('resolves too when the storage fails: the caller of each append is told', async () => {
    const failing = intercepted(createMemoryBlobStore(), {
      before: (call) => {
        if (call === 'append') throw new Error('no storage today');
      },
    });
    const journal = openJournal(failing, 'photos', settings);
    const append = expect(journal.append([upload('a')])).rejects.toThrow('no storage today');
    await journal.close();
    await append;
  });

  it('is harmless a second time, refuses what comes after, and leaves reading and sealing as they are', async () => {
    const journal = openJournal(createMemoryBlobStore(), 'photos', settings);
    const append = journal.append([upload('a')]);
    await Promise.all([journal.close(), journal.close()]);
    await journal.close();
    await append;
    await expect(journal.append([upload('b')])).rejects.toMatchObject({ code: 'FIRN_JOURNAL_CLOSED' });
    expect(await allPaths(journal)).toEqual(['a']);
  });

  it('happens at the end of a scope, of all journals of a process, and of a repository', async () => {
    const state = createMemoryBlobStore();
    {
      await using journal = openJournal(state, 'photos', settings);
      void journal.append([upload('a')]);
    }
    {
      await using journals = createJournals(state, settings);
      for (const source of ['photos', 'music']) void journals.of(source).append([upload('b')]);
    }
    expect(await allPaths(openJournal(state, 'photos', settings))).toEqual(['a', 'b']);
    expect(await allPaths(openJournal(state, 'music', settings))).toEqual(['b']);

    const account = createMemoryAccount();
    const inbox = openInbox(account, readSettings({}).settings);
    void inbox.journalOf('photos').append([upload('c')]);
    await inbox[Symbol.asyncDispose]();
    expect(await allPaths(openJournal(inbox.state.store, 'photos', settings))).toEqual(['c']);
  });

  it('a thousand times leaves no handle, no listener and no memory behind', async () => {
    const state = createMemoryBlobStore();
    const { signal } = new AbortController();
    let uploads = 0;
    const cycle = async () => {
      const journal = openJournal(state, 'photos', settings);
      await journal.append([upload(`${uploads++}`)], { signal });
      await journal.close();
      // What the storage holds is not what is asked here.
      if (journal.metrics().flushes !== 1) throw new Error('nothing was appended');
    };
    for (let round = 0; round < 100; round += 1) await cycle();
    collectGarbage();
    const handles = process.getActiveResourcesInfo().length;
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    for (let round = 0; round < 1000; round += 1) await cycle();
    collectGarbage();
    // The test runner has some of its own, now more, now fewer.
    expect(process.getActiveResourcesInfo().length).toBeLessThan(handles + 50);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    const grown = process.memoryUsage();
    expect(grown.heapUsed + grown.arrayBuffers - heapUsed - arrayBuffers).toBeLessThan(6 * 1024 * 1024);
  });
});

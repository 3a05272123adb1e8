/**
 * What the port of `src/storage/blob-store.ts` promises, as tests that every adapter passes.
 *
 * An adapter's own test file calls `blobStoreConformance` with a way to make stores. Leases end by time only where the
 * adapter's clock can be moved.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { nameFromListing } from '../../src/storage/blob-rules.ts';
import { type BlobStore, tiers } from '../../src/storage/blob-store.ts';

export interface ConformanceSubject {
  /** A store over a container that nothing else uses. */
  open(options?: { container?: boolean }): Promise<BlobStore>;
  /** Moves the clock of leases; absent where it cannot be moved. */
  readonly passTime?: (ms: number) => void;
  /** Cases of the property tests. */
  readonly runs: number;
}

const text = (value: string): Buffer => Buffer.from(value);
const bodyOf = async (store: BlobStore, name: string): Promise<string> => (await store.read(name)).body.toString();
const namesOf = async (store: BlobStore, prefix?: string): Promise<string[]> =>
  (await Array.fromAsync(store.list(prefix === undefined ? {} : { prefix }))).map((item) => item.name);

async function* pieces(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

/** Yields `first`, then waits for ever. */
async function* stuck(first: Uint8Array, onStuck: () => void): AsyncGenerator<Uint8Array> {
  yield first;
  onStuck();
  await new Promise(() => undefined);
}

function failure(word: string): { failure: string } {
  return expect.objectContaining({ name: 'BlobStoreError', failure: word });
}

export function blobStoreConformance(label: string, subject: ConformanceSubject): void {
  describe(`the blob store (${label})`, () => {
    describe('containers', () => {
      test('a container is created once, deleted once, and missing before and after, which is told from a missing blob', async () => {
        const store = await subject.open({ container: false });
        const expectMissing = async () => {
          const containerMissing = expect.objectContaining({ code: 'FIRN_CONTAINER_MISSING' });
          for (const call of [
            () => store.read('a'),
            () => store.readStream('a'),
            () => store.properties('a'),
            () => store.create('a', text('')),
            () => store.createAppend('a', text('x')),
            () => store.replace('a', text(''), { ifMatch: '"0x1"' }),
            () => store.delete('a'),
            () => store.acquireLease('a', randomUUID(), 15),
            () => Array.fromAsync(store.list()),
            () => Array.fromAsync(store.listFolders()),
          ]) {
            await expect(call(), String(call)).rejects.toEqual(containerMissing);
          }
          expect(await store.deleteContainer()).toBe(false);
        };
        await expectMissing();

        expect(await store.createContainer()).toBe(true);
        expect(await store.createContainer()).toBe(false);
        await expect(store.properties('a')).rejects.toEqual(failure('missing'));
        await store.create('a', text('body'));
        expect(await store.deleteContainer()).toBe(true);
        await expectMissing();
      });

      test('its address holds no credential', async () => {
        const { url } = await subject.open();
        expect(url).not.toMatch(/[?]|sig=|key/i);
      });
    });

    describe('create', () => {
      test('a blob comes back with its bytes, metadata, tier, size and ETag', async () => {
        const store = await subject.open();
        const before = Date.now();
        const { etag } = await store.create('a/b', text('hello'), {
          metadata: { firn_type: 'large', note: 'two  words, «none» not'.replaceAll(/[«»]/g, '"') },
          tier: 'Cool',
        });
        const after = Date.now();
        const expected = {
          etag,
          bytes: 5,
          metadata: { firn_type: 'large', note: 'two  words, "none" not' },
          sealed: false,
          leased: false,
          lastModified: expect.any(Date),
        };
        const properties = await store.properties('a/b');
        expect(properties).toEqual({ ...expected, tier: 'Cool' });
        expect(await Array.fromAsync(store.list())).toEqual([{ ...expected, tier: 'Cool', name: 'a/b' }]);
        const read = await store.read('a/b');
        expect(read.body.equals(text('hello'))).toBe(true);
        expect(read.properties).toEqual({ ...expected, tier: undefined });
        expect(etag).toMatch(/^".+"$/);
        if (subject.passTime === undefined) {
          // Whole seconds.
          expect(properties.lastModified.getTime()).toBeGreaterThan(before - 1_000);
          expect(properties.lastModified.getTime()).toBeLessThanOrEqual(after);
        }
      });

      test.each(tiers)('it can be written to the tier %s', async (tier) => {
        const store = await subject.open();
        await store.create('a', text('x'), { tier });
        expect((await store.properties('a')).tier).toBe(tier);
      });

      test('a second create fails with «exists» and changes nothing', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('first'));
        await expect(store.create('a', text('second'))).rejects.toEqual(failure('exists'));
        await expect(store.createFromStream('a', pieces(text('third')))).rejects.toEqual(failure('exists'));
        await expect(store.createAppend('a', text('fourth'))).rejects.toEqual(failure('exists'));
        expect(await bodyOf(store, 'a')).toBe('first');
        expect((await store.properties('a')).etag).toBe(etag);
      });

      test('of many at once exactly one wins', async () => {
        const store = await subject.open();
        const results = await Promise.allSettled(
          Array.from({ length: 12 }, (_, i) =>
            i % 2 === 0
              ? store.create('a', text(`writer ${i}`))
              : store.createFromStream('a', pieces(text('writer '), text(String(i)))),
          ),
        );
        const winners = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
        expect(winners).toHaveLength(1);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toEqual(failure('exists'));
        expect(await bodyOf(store, 'a')).toBe(`writer ${winners[0]}`);
      });

      test('a leased blob is in the way like any other', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        await store.acquireLease('a', randomUUID(), 60);
        await expect(store.create('a', text('y'))).rejects.toEqual(failure('exists'));
        await expect(store.createFromStream('a', pieces(text('y')))).rejects.toEqual(failure('exists'));
        await expect(store.createAppend('a', text('y'))).rejects.toEqual(failure('exists'));
      });

      test('an empty blob can be written and read', async () => {
        const store = await subject.open();
        await store.create('a', Buffer.alloc(0));
        await store.createFromStream('b', pieces());
        await store.createFromStream('c', pieces(Buffer.alloc(0), Buffer.alloc(0)));
        for (const name of ['a', 'b', 'c']) {
          expect((await store.read(name)).body).toHaveLength(0);
          expect((await store.read(name, { offset: 0, length: 10 })).body).toHaveLength(0);
          expect((await store.properties(name)).bytes).toBe(0);
        }
      });

      test('metadata that the service cannot hold is refused before anything is written', async () => {
        const store = await subject.open();
        const bad = [{ Upper: 'x' }, { 'a-b': 'x' }, { '1a': 'x' }, { a: 'ü' }, { a: ' x' }, { a: '' }, { a: 'x\ny' }];
        for (const metadata of [...bad, { a: 'x'.repeat(9000) }] as Record<string, string>[]) {
          await expect(store.create('a', text('x'), { metadata })).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
        }
        expect(await namesOf(store)).toEqual([]);
      });

      test('what the caller does to its bytes afterwards does not reach the blob', async () => {
        const store = await subject.open();
        const mine = text('mine');
        await store.create('a', mine);
        mine.fill(0);
        const first = await store.read('a');
        expect(first.body.toString()).toBe('mine');
        first.body.fill(0);
        expect(await bodyOf(store, 'a')).toBe('mine');
      });
    });

    describe('replaceFromStream', () => {
      test('replaces the blob with this ETag, whatever the length, and no other', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('old'));
        const large = [Buffer.alloc(5 * 1024 * 1024, 1), Buffer.alloc(5 * 1024 * 1024, 2)];
        const second = await store.replaceFromStream('a', pieces(...large), { ifMatch: etag, metadata: { k: 'v' } });
        const { body, properties } = await store.read('a');
        expect(body.equals(Buffer.concat(large))).toBe(true);
        expect(properties).toMatchObject({ etag: second.etag, metadata: { k: 'v' } });
        for (const content of [pieces(text('x')), pieces(...large)]) {
          await expect(store.replaceFromStream('a', content, { ifMatch: etag })).rejects.toEqual(failure('changed'));
        }
        expect((await store.properties('a')).etag).toBe(second.etag);
      });

      test('leaves the old blob where the stream fails', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('old'));
        const broken = new Error('broken');
        async function* failing() {
          yield Buffer.alloc(20 * 1024 * 1024, 1);
          throw broken;
        }
        await expect(store.replaceFromStream('a', failing(), { ifMatch: etag })).rejects.toBe(broken);
        expect((await store.read('a')).body.toString()).toBe('old');
      });
    });

    describe('createFromStream', () => {
      test('pieces of any size become one blob, with metadata and tier', async () => {
        const store = await subject.open();
        const parts = [1, 0, 100_000, 8 * 1024 * 1024, 3, 9 * 1024 * 1024 + 1].map((bytes) => randomBytes(bytes));
        const { etag } = await store.createFromStream('a', pieces(...parts), { metadata: { k: 'v' }, tier: 'Cold' });
        const { body } = await store.read('a');
        expect(body.equals(Buffer.concat(parts))).toBe(true);
        expect(await store.properties('a')).toMatchObject({ etag, metadata: { k: 'v' }, tier: 'Cold' });
      });

      test('of many long ones at once exactly one wins, unmixed', async () => {
        const store = await subject.open();
        const bodies = Array.from({ length: 4 }, (_, i) => Buffer.alloc(17 * 1024 * 1024, i + 1));
        const results = await Promise.allSettled(
          bodies.map((body) => store.createFromStream('a', pieces(body.subarray(0, 1000), body.subarray(1000)))),
        );
        const winners = results.flatMap((result, i) => (result.status === 'fulfilled' ? [i] : []));
        expect(winners).toHaveLength(1);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toEqual(failure('exists'));
        expect((await store.read('a')).body.equals(bodies[winners[0] ?? -1] as Buffer)).toBe(true);
      });

      test.each([10, 50 * 1024 * 1024])('a source that fails after %d bytes leaves nothing', async (bytes) => {
        const store = await subject.open();
        const broken = new Error('the source broke');
        async function* failing(): AsyncGenerator<Uint8Array> {
          yield Buffer.alloc(bytes, 7);
          throw broken;
        }
        const writers: [string, (name: string) => Promise<unknown>][] = [
          ['body', (name) => store.create(name, text('body'), { metadata: { k: 'v' } })],
          ['', (name) => store.create(name, text(''), { metadata: { k: 'v' } })],
          ['stream', (name) => store.createFromStream(name, pieces(text('stream')), { metadata: { k: 'v' } })],
        ];
        for (const [body, write] of writers) {
          const name = `after-${body}-`;
          await expect(store.createFromStream(name, failing())).rejects.toBe(broken);
          expect(await namesOf(store, name)).toEqual([]);
          await expect(store.read(name)).rejects.toEqual(failure('missing'));
          await write(name);
          expect(await bodyOf(store, name)).toBe(body);
          expect((await store.properties(name)).metadata).toEqual({ k: 'v' });
        }
      });

      test.each([10, 20 * 1024 * 1024])('a signal ends it while the source is stuck after %d bytes', async (bytes) => {
        const store = await subject.open();
        const controller = new AbortController();
        const reason = new Error('enough');
        const writing = store.createFromStream(
          'a',
          stuck(Buffer.alloc(bytes), () => controller.abort(reason)),
          { signal: controller.signal },
        );
        await expect(writing).rejects.toBe(reason);
        expect(await namesOf(store)).toEqual([]);
      });

      test('the source is closed when the blob is there already', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        let closed = false;
        async function* source(): AsyncGenerator<Uint8Array> {
          try {
            for (let i = 0; i < 40; i += 1) yield Buffer.alloc(1024 * 1024);
          } finally {
            closed = true;
          }
        }
        await expect(store.createFromStream('a', source())).rejects.toEqual(failure('exists'));
        expect(closed).toBe(true);
      });
    });

    describe('replace', () => {
      test('it replaces the blob that has the ETag, with new metadata and tier', async () => {
        const store = await subject.open();
        const first = await store.create('a', text('one'), { metadata: { k: '1', old: 'x' } });
        const second = await store.replace('a', text('two'), {
          ifMatch: first.etag,
          metadata: { k: '2' },
          tier: 'Cool',
        });
        expect(second.etag).not.toBe(first.etag);
        expect(await bodyOf(store, 'a')).toBe('two');
        expect(await store.properties('a')).toMatchObject({ etag: second.etag, metadata: { k: '2' }, tier: 'Cool' });
        expect((await store.properties('a')).metadata).toEqual({ k: '2' });
      });

      test('a stale ETag, or no blob at all, fails with «changed»', async () => {
        const store = await subject.open();
        const first = await store.create('a', text('one'));
        await store.replace('a', text('two'), { ifMatch: first.etag });
        await expect(store.replace('a', text('three'), { ifMatch: first.etag })).rejects.toEqual(failure('changed'));
        await expect(store.replace('b', text('three'), { ifMatch: first.etag })).rejects.toEqual(failure('changed'));
        expect(await bodyOf(store, 'a')).toBe('two');
        expect(await namesOf(store)).toEqual(['a']);
      });

      test('no update is lost when many count at once', async () => {
        const store = await subject.open();
        await store.create('count', text('0'));
        const increment = async (): Promise<void> => {
          while (true) {
            const { body, properties } = await store.read('count');
            try {
              await store.replace('count', text(String(Number(body) + 1)), { ifMatch: properties.etag });
              return;
            } catch (error) {
              expect(error).toEqual(failure('changed'));
            }
          }
        };
        await Promise.all(Array.from({ length: 8 }, increment));
        expect(await bodyOf(store, 'count')).toBe('8');
      });

      test('a blob under a lease is «leased», with the right ETag too', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('one'));
        await store.acquireLease('a', randomUUID(), 60);
        await expect(store.replace('a', text('two'), { ifMatch: etag })).rejects.toEqual(failure('leased'));
        expect(await bodyOf(store, 'a')).toBe('one');
      });
    });

    describe('read', () => {
      const content = '0123456789';

      test.each([
        [{ offset: 0, length: 3 }, '012'],
        [{ offset: 3, length: 4 }, '3456'],
        [{ offset: 7 }, '789'],
        [{ length: 4 }, '0123'],
        [{ offset: 8, length: 100 }, '89'],
        [{ offset: 10 }, ''],
        [{ offset: 10, length: 5 }, ''],
        [{ offset: 4, length: 0 }, ''],
        [{}, content],
      ])('the range %j gives «%s», in memory and as a stream', async (range, expected) => {
        const store = await subject.open();
        const { etag } = await store.create('a', text(content), { metadata: { k: 'v' } });
        const read = await store.read('a', range);
        expect(read.body.toString()).toBe(expected);
        expect(read.properties).toMatchObject({ bytes: 10, etag, metadata: { k: 'v' }, tier: undefined });
        const stream = await store.readStream('a', range);
        expect(Buffer.concat(await Array.fromAsync(stream.body)).toString()).toBe(expected);
        expect(stream.properties).toMatchObject({ bytes: 10, etag, metadata: { k: 'v' }, tier: undefined });
      });

      test('a range that begins behind the end fails with «range»', async () => {
        const store = await subject.open();
        await store.create('a', text(content));
        await store.create('empty', text(''));
        for (const range of [{ offset: 11 }, { offset: 11, length: 0 }, { offset: 99, length: 1 }]) {
          await expect(store.read('a', range)).rejects.toEqual(failure('range'));
          await expect(store.readStream('a', range)).rejects.toEqual(failure('range'));
        }
        await expect(store.read('empty', { offset: 1 })).rejects.toEqual(failure('range'));
      });

      test('with «ifMatch» only that version is read', async () => {
        const store = await subject.open();
        const first = await store.create('a', text('one'));
        expect((await store.read('a', { ifMatch: first.etag })).body.toString()).toBe('one');
        await store.replace('a', text('two'), { ifMatch: first.etag });
        for (const range of [{}, { offset: 1, length: 1 }, { offset: 3 }, { length: 0 }]) {
          await expect(store.read('a', { ...range, ifMatch: first.etag })).rejects.toEqual(failure('changed'));
          await expect(store.readStream('a', { ...range, ifMatch: first.etag })).rejects.toEqual(failure('changed'));
        }
      });

      test('what is not there is «missing»', async () => {
        const store = await subject.open();
        await expect(store.read('a')).rejects.toEqual(failure('missing'));
        await expect(store.read('a', { offset: 5, length: 5 })).rejects.toEqual(failure('missing'));
        await expect(store.read('a', { length: 0 })).rejects.toEqual(failure('missing'));
        await expect(store.readStream('a')).rejects.toEqual(failure('missing'));
        await expect(store.properties('a')).rejects.toEqual(failure('missing'));
        await expect(store.properties('a')).rejects.toMatchObject({ blob: 'a' });
      });

      test('a blob in the Archive tier is «offline», but is listed and has properties', async () => {
        const store = await subject.open();
        await store.create('a', text('cold'), { tier: 'Archive', metadata: { k: 'v' } });
        await expect(store.read('a')).rejects.toEqual(failure('offline'));
        await expect(store.read('a', { offset: 1, length: 1 })).rejects.toEqual(failure('offline'));
        await expect(store.read('a', { length: 0 })).rejects.toEqual(failure('offline'));
        await expect(store.readStream('a')).rejects.toEqual(failure('offline'));
        const expected = { bytes: 4, tier: 'Archive', metadata: { k: 'v' } };
        expect(await store.properties('a')).toMatchObject(expected);
        expect(await Array.fromAsync(store.list())).toMatchObject([expected]);
        expect(await store.delete('a')).toBe(true);
      });

      test('a long stream comes whole, and may be left early', async () => {
        const store = await subject.open();
        const body = randomBytes(3 * 1024 * 1024 + 5);
        await store.create('a', body);
        const { body: whole } = await store.readStream('a');
        expect(Buffer.concat(await Array.fromAsync(whole)).equals(body)).toBe(true);
        // Each piece is its reader's own, and what becomes of it changes neither the blob nor the pieces after it.
        const { body: overwritten } = await store.readStream('a');
        let at = 0;
        for await (const piece of overwritten) {
          expect(piece.equals(body.subarray(at, at + piece.length))).toBe(true);
          at += piece.length;
          piece.fill(0);
          if (piece.buffer instanceof ArrayBuffer && piece.length === piece.buffer.byteLength) piece.buffer.transfer(0);
        }
        expect(at).toBe(body.length);
        expect((await store.read('a')).body.equals(body)).toBe(true);
        const { body: left } = await store.readStream('a', { offset: 5 });
        let seen = 0;
        for await (const piece of left) {
          expect(piece.equals(body.subarray(5, 5 + piece.length))).toBe(true);
          seen += piece.length;
          break;
        }
        expect(seen).toBeGreaterThan(0);
        expect(seen).toBeLessThan(body.length - 5);
      });

      test('a stream is cancelled and left by its reader without another word', async () => {
        const store = await subject.open();
        await store.create('a', randomBytes(8 * 1024 * 1024));
        // What nobody catches fails the run.
        for (let round = 0; round < 30; round += 1) {
          const controller = new AbortController();
          const { body } = await store.readStream('a', { signal: controller.signal });
          const pieces = body[Symbol.asyncIterator]();
          // Also one that nobody has begun to read.
          if (round % 2 === 0) await pieces.next();
          for (let turn = 0; turn < round; turn += 1) await new Promise(setImmediate);
          controller.abort(new Error('enough'));
          for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
          await pieces.return?.();
        }
      });

      test('a signal ends a stream with its reason', async () => {
        const store = await subject.open();
        await store.create('a', randomBytes(8 * 1024 * 1024));
        const controller = new AbortController();
        const reason = new Error('enough');
        const { body } = await store.readStream('a', { signal: controller.signal });
        const reading = (async () => {
          for await (const _ of body) controller.abort(reason);
        })();
        await expect(reading).rejects.toBe(reason);
      });
    });

    describe('listing', () => {
      test('blobs come in the order of their names, below a prefix only', async () => {
        const store = await subject.open();
        const names = ['B', 'a', 'a-b', 'a/b', 'a/b/c', 'a0', 'b', '10', '9', 'ä', 'z', '_'];
        for (const name of names) await store.create(name, text(name));
        const sorted = names.toSorted((a, b) => Buffer.compare(text(a), text(b)));
        expect(await namesOf(store)).toEqual(sorted);
        expect(await namesOf(store, 'a')).toEqual(['a', 'a-b', 'a/b', 'a/b/c', 'a0']);
        expect(await namesOf(store, 'a/')).toEqual(['a/b', 'a/b/c']);
        expect(await namesOf(store, 'nothing')).toEqual([]);
      });

      test('folders are the distinct first segments, without the blobs beside them', async () => {
        const store = await subject.open();
        for (const name of ['a/1', 'a/2', 'a-b/1', 'b', 'c/d/1', 'c/d/2', 'c/e', 'c/f g/ü/1', 'a']) {
          await store.create(name, text(''));
        }
        const folders = (prefix?: string): Promise<string[]> =>
          Array.fromAsync(store.listFolders(prefix === undefined ? {} : { prefix }));
        expect(await folders()).toEqual(['a-b', 'a', 'c']);
        expect(await folders('')).toEqual(['a-b', 'a', 'c']);
        expect(await folders('c/')).toEqual(['d', 'f g']);
        expect(await folders('c/f g/')).toEqual(['ü']);
        expect(await folders('nothing/')).toEqual([]);
        await expect(folders('c')).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
      });

      test('append blobs, deleted blobs and half-written blobs are told apart', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('x'), { metadata: { k: 'v' } });
        await store.seal('log');
        await store.create('gone', text('x'));
        await store.delete('gone');
        const items = await Array.fromAsync(store.list());
        expect(items).toMatchObject([{ name: 'log', bytes: 1, sealed: true, tier: undefined, metadata: { k: 'v' } }]);
      });

      test('a signal ends a listing with its reason', async () => {
        const store = await subject.open();
        await store.create('a', text(''));
        await store.create('b', text(''));
        const controller = new AbortController();
        const reason = new Error('enough');
        const seen: string[] = [];
        const listing = (async () => {
          for await (const item of store.list({ signal: controller.signal })) {
            seen.push(item.name);
            controller.abort(reason);
          }
        })();
        await expect(listing).rejects.toBe(reason);
        expect(seen).toEqual(['a']);
      });
    });

    describe('names', () => {
      const odd = [
        ...[
          'a b',
          ' lead',
          'trail ',
          'a\nb',
          'a\r\nb',
          'Icon\r',
          'a\tb',
          'nl\n',
          'a%41',
          '%',
          '%zz',
          'a%2Fb',
          'a?b=c&d',
          'a#b',
        ],
        ...['é', 'e\u0301', '😀', '\uffee', 'a//b', '/lead', 'trail/', 'dot.', '...', 'a.../b', `q'"<>&`, 'a+b', 'a:b'],
        ...[
          'a*b',
          'a&amp;b',
          '\u007f',
          '\u0085',
          '\u2028',
          '\u200b',
          '\ufeffbom',
          'true',
          '1e5',
          '007',
          ' ',
          '$root',
          '~',
        ],
        ...['x'.repeat(1024), 'ü'.repeat(1024), `${'y'.repeat(250)}/`.repeat(4)],
      ];

      test('odd names are kept exactly', async () => {
        const store = await subject.open();
        await Promise.all(odd.map((name) => store.create(name, text(name))));
        const bodies = await Promise.all(odd.map((name) => bodyOf(store, name)));
        expect(bodies).toEqual(odd);
        expect((await namesOf(store)).toSorted()).toEqual(odd.toSorted());
        for (const name of ['a%41', ' lead', 'a?b=c&d', 'Icon']) {
          expect((await namesOf(store, name)).every((found) => found.startsWith(name))).toBe(true);
          expect(await namesOf(store, name)).not.toEqual([]);
        }
        await Promise.all(odd.map(async (name) => expect(await store.delete(name)).toBe(true)));
        expect(await namesOf(store)).toEqual([]);
      });

      test('any name that is taken is kept exactly', async () => {
        const store = await subject.open();
        const segment = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 });
        const name = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/'));
        await fc.assert(
          fc.asyncProperty(name, async (wanted) => {
            try {
              await store.create(wanted, text(wanted));
            } catch (error) {
              expect(error).toMatchObject({ code: 'FIRN_PATH_UNUSABLE' });
              return;
            }
            expect(await bodyOf(store, wanted)).toBe(wanted);
            expect(await namesOf(store)).toEqual([wanted]);
            expect(await store.delete(wanted)).toBe(true);
          }),
          { numRuns: subject.runs },
        );
      });

      test('names that no blob can have are refused, and nothing is written under another name', async () => {
        const store = await subject.open();
        const unusable = [
          '',
          '.',
          '..',
          'a/../b',
          'a/.',
          './a',
          'a\\b',
          'x'.repeat(1025),
          '\ud800',
          'a\0b',
          'a\u0001b',
        ];
        for (const name of [...unusable, 'a\ufffeb', 'a&#xD;b']) {
          await expect(store.create(name, text('x'))).rejects.toMatchObject({ code: 'FIRN_PATH_UNUSABLE' });
          await expect(store.createFromStream(name, pieces())).rejects.toMatchObject({ code: 'FIRN_PATH_UNUSABLE' });
          await expect(store.createAppend(name, text('x'))).rejects.toMatchObject({ code: 'FIRN_PATH_UNUSABLE' });
        }
        expect(await namesOf(store)).toEqual([]);
        expect(nameFromListing('a&#xD;&#xD;b')).toBe('a\r\rb');
      });
    });

    describe('delete', () => {
      test('it says whether the blob was there', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        expect(await store.delete('a')).toBe(true);
        expect(await store.delete('a')).toBe(false);
        await expect(store.read('a')).rejects.toEqual(failure('missing'));
      });

      test('with «ifMatch» only that version goes', async () => {
        const store = await subject.open();
        const first = await store.create('a', text('one'));
        const second = await store.replace('a', text('two'), { ifMatch: first.etag });
        await expect(store.delete('a', { ifMatch: first.etag })).rejects.toEqual(failure('changed'));
        expect(await bodyOf(store, 'a')).toBe('two');
        expect(await store.delete('a', { ifMatch: second.etag })).toBe(true);
        expect(await store.delete('a', { ifMatch: second.etag })).toBe(false);
      });

      test('a leased blob stays', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('x'));
        await store.acquireLease('a', randomUUID(), 60);
        await expect(store.delete('a')).rejects.toEqual(failure('leased'));
        await expect(store.delete('a', { ifMatch: etag })).rejects.toEqual(failure('leased'));
        expect(await bodyOf(store, 'a')).toBe('x');
      });
    });

    describe('append blobs', () => {
      test('blocks follow each other, and each append says where and how many', async () => {
        const store = await subject.open();
        const created = await store.createAppend('log', text('head'), { metadata: { k: 'v' } });
        expect(created).toEqual({ offset: 0, blocks: 1, etag: expect.any(String) });
        const second = await store.append('log', text('-two'));
        expect(second).toEqual({ offset: 4, blocks: 2, etag: expect.any(String) });
        expect(second.etag).not.toBe(created.etag);
        expect(await store.append('log', text('-3'), { position: 8 })).toMatchObject({ offset: 8, blocks: 3 });
        const { body, properties } = await store.read('log');
        expect(body.toString()).toBe('head-two-3');
        expect(properties).toMatchObject({ bytes: 10, metadata: { k: 'v' }, sealed: false, tier: undefined });
        expect((await store.read('log', { offset: 4, length: 4 })).body.toString()).toBe('-two');
        expect((await store.read('log', { offset: 10 })).body).toHaveLength(0);
        expect(await store.properties('log')).toMatchObject({ etag: properties.etag, blocks: 3 });
      });

      test('an append at another position than the end fails with «position» and adds nothing', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('head'));
        for (const position of [0, 3, 5]) {
          await expect(store.append('log', text('x'), { position })).rejects.toEqual(failure('position'));
        }
        expect(await bodyOf(store, 'log')).toBe('head');
      });

      test('of many appends at one position exactly one wins; without position all are kept', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('h'));
        const results = await Promise.allSettled(
          Array.from({ length: 8 }, (_, i) => store.append('log', text(String(i)), { position: 1 })),
        );
        expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toEqual(failure('position'));
        await Promise.all(['a', 'b', 'c', 'd'].map((letter) => store.append('log', text(letter))));
        expect([...(await bodyOf(store, 'log')).slice(2)].toSorted().join('')).toBe('abcd');
      });

      test('a sealed blob takes no more, can be sealed again, and says that it is sealed', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('head'));
        await store.seal('log');
        await store.seal('log');
        await expect(store.append('log', text('x'))).rejects.toEqual(failure('sealed'));
        await expect(store.append('log', text('x'), { position: 4 })).rejects.toEqual(failure('sealed'));
        expect((await store.properties('log')).sealed).toBe(true);
        expect((await store.read('log')).properties.sealed).toBe(true);
        expect(await bodyOf(store, 'log')).toBe('head');
        expect(await store.delete('log')).toBe(true);
      });

      test('what is not there can be neither appended to nor sealed', async () => {
        const store = await subject.open();
        await expect(store.append('log', text('x'))).rejects.toEqual(failure('missing'));
        await expect(store.append('log', text('x'), { position: 0 })).rejects.toEqual(failure('missing'));
        await expect(store.seal('log')).rejects.toEqual(failure('missing'));
      });

      test('a block has 1 byte to 4 MiB', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('h'));
        await expect(store.append('log', Buffer.alloc(0))).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
        await expect(store.append('log', Buffer.alloc(4 * 1024 * 1024 + 1))).rejects.toMatchObject({
          code: 'FIRN_INTERNAL',
        });
        expect(await store.append('log', Buffer.alloc(4 * 1024 * 1024))).toMatchObject({ offset: 1, blocks: 2 });
      });

      test('a leased append blob can be neither appended to nor sealed', async () => {
        const store = await subject.open();
        await store.createAppend('log', text('h'));
        await store.acquireLease('log', randomUUID(), 60);
        await expect(store.append('log', text('x'))).rejects.toEqual(failure('leased'));
        await expect(store.seal('log')).rejects.toEqual(failure('leased'));
        expect(await bodyOf(store, 'log')).toBe('h');
      });
    });

    describe('leases', () => {
      const mine = randomUUID();
      const theirs = randomUUID();

      test('one holder at a time; the holder may take it again, renew and release it', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('x'));
        expect(await store.acquireLease('a', mine, 15)).toEqual({ etag });
        expect(await store.acquireLease('a', mine, 60)).toEqual({ etag });
        expect((await store.read('a')).properties.etag).toBe(etag);
        await expect(store.acquireLease('a', theirs, 15)).rejects.toEqual(failure('leased'));
        await store.renewLease('a', mine);
        await expect(store.renewLease('a', theirs)).rejects.toEqual(failure('lease-lost'));
        expect(await store.releaseLease('a', theirs)).toBe(false);
        expect(await store.releaseLease('a', mine)).toBe(true);
        expect(await store.releaseLease('a', mine)).toBe(false);
        await store.acquireLease('a', theirs, 15);
        await expect(store.renewLease('a', mine)).rejects.toEqual(failure('lease-lost'));
        expect(await store.releaseLease('a', mine)).toBe(false);
        await store.renewLease('a', theirs);
      });

      test('of many at once exactly one gets it', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        const results = await Promise.allSettled(
          Array.from({ length: 16 }, () => store.acquireLease('a', randomUUID(), 60)),
        );
        expect(results.filter((result) => result.status === 'fulfilled')).toHaveLength(1);
        for (const result of results)
          if (result.status === 'rejected') expect(result.reason).toEqual(failure('leased'));
      });

      test('under a lease the body is replaced by its holder only, and the lease stays', async () => {
        const store = await subject.open();
        const { etag } = await store.create('a', text('one'), { metadata: { k: 'v' } });
        await expect(store.writeLeased('a', text('no'), mine)).rejects.toEqual(failure('lease-lost'));
        await store.acquireLease('a', mine, 60);
        const written = await store.writeLeased('a', text('two'), mine);
        expect(written.etag).not.toBe(etag);
        await expect(store.writeLeased('a', text('no'), theirs)).rejects.toEqual(failure('lease-lost'));
        await expect(store.acquireLease('a', theirs, 15)).rejects.toEqual(failure('leased'));
        expect(await bodyOf(store, 'a')).toBe('two');
        expect(await store.properties('a')).toMatchObject({ etag: written.etag, metadata: {} });
        await store.releaseLease('a', mine);
        await expect(store.writeLeased('a', text('no'), mine)).rejects.toEqual(failure('lease-lost'));
        expect(await bodyOf(store, 'a')).toBe('two');
      });

      test('anyone may read and list a leased blob', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        await store.acquireLease('a', mine, 60);
        expect(await bodyOf(store, 'a')).toBe('x');
        expect(await namesOf(store)).toEqual(['a']);
      });

      test('a broken lease is lost to its holder and free for others at once', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        expect(await store.breakLease('a')).toBe(false);
        await store.acquireLease('a', mine, 60);
        expect(await store.breakLease('a')).toBe(true);
        await expect(store.renewLease('a', mine)).rejects.toEqual(failure('lease-lost'));
        await expect(store.writeLeased('a', text('no'), mine)).rejects.toEqual(failure('lease-lost'));
        await store.acquireLease('a', theirs, 60);
        expect(await store.releaseLease('a', theirs)).toBe(true);
        expect(await store.breakLease('a')).toBe(false);
      });

      test('whether there is one is said by properties, reads and listings', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        await store.createAppend('b', text('x'));
        const leased = async () => {
          const [a, b] = await Array.fromAsync(store.list());
          const { body, properties } = await store.readStream('a');
          await Array.fromAsync(body);
          const said = [await store.properties('a'), (await store.read('a')).properties, properties, a];
          expect(new Set(said.map((each) => each?.leased)).size).toBe(1);
          expect([b?.leased, (await store.properties('b')).leased]).toEqual([false, false]);
          return said[0]?.leased;
        };
        expect(await leased()).toBe(false);
        await store.acquireLease('a', mine, 60);
        expect(await leased()).toBe(true);
        await store.breakLease('a');
        expect(await leased()).toBe(false);
        await store.acquireLease('a', theirs, 15);
        await store.releaseLease('a', theirs);
        expect(await leased()).toBe(false);
      });

      test('what is not there can be neither leased nor written under a lease', async () => {
        const store = await subject.open();
        await expect(store.acquireLease('a', mine, 15)).rejects.toEqual(failure('missing'));
        await expect(store.renewLease('a', mine)).rejects.toEqual(failure('missing'));
        await expect(store.writeLeased('a', text('x'), mine)).rejects.toEqual(failure('missing'));
        await expect(store.breakLease('a')).rejects.toEqual(failure('missing'));
        expect(await store.releaseLease('a', mine)).toBe(false);
        expect(await namesOf(store)).toEqual([]);
      });

      test('ids and durations that the service does not take are refused', async () => {
        const store = await subject.open();
        await store.create('a', text('x'));
        for (const seconds of [0, 14, 61, 15.5, -1, Number.NaN]) {
          await expect(store.acquireLease('a', mine, seconds)).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
        }
        await expect(store.acquireLease('a', 'me', 15)).rejects.toMatchObject({ code: 'FIRN_INTERNAL' });
      });

      const { passTime } = subject;
      if (passTime !== undefined) {
        test('a lease ends by itself; renewing moves its end', async () => {
          const store = await subject.open();
          await store.create('a', text('x'));
          await store.acquireLease('a', mine, 15);
          passTime(10_000);
          await store.renewLease('a', mine);
          passTime(14_999);
          await expect(store.acquireLease('a', theirs, 15)).rejects.toEqual(failure('leased'));
          expect((await store.properties('a')).leased).toBe(true);
          passTime(1);
          expect((await store.properties('a')).leased).toBe(false);
          await store.acquireLease('a', theirs, 15);
          await expect(store.renewLease('a', mine)).rejects.toEqual(failure('lease-lost'));
        });

        test('a lease that ended can be renewed until someone takes it or writes', async () => {
          const store = await subject.open();
          await store.createAppend('a', text('x'));
          await store.acquireLease('a', mine, 15);
          passTime(60_000);
          await store.renewLease('a', mine);
          passTime(60_000);
          await store.append('a', text('y'));
          await expect(store.renewLease('a', mine)).rejects.toEqual(failure('lease-lost'));
        });

        test('nothing is written under a lease that ended', async () => {
          const store = await subject.open();
          await store.create('a', text('x'));
          await store.acquireLease('a', mine, 15);
          passTime(15_000);
          await expect(store.writeLeased('a', text('y'), mine)).rejects.toEqual(failure('lease-lost'));
          expect(await store.delete('a')).toBe(true);
        });
      }
    });

    test('a signal that has fired ends every call with its reason, before anything is done', async () => {
      const store = await subject.open();
      const { etag } = await store.create('a', text('x'));
      await store.createAppend('log', text('x'));
      const reason = new Error('enough');
      const signal = AbortSignal.abort(reason);
      const id = randomUUID();
      const calls: (() => Promise<unknown>)[] = [
        () => store.createContainer({ signal }),
        () => store.deleteContainer({ signal }),
        () => store.create('b', text('x'), { signal }),
        () => store.createFromStream('b', pieces(text('x')), { signal }),
        () => store.replace('a', text('y'), { ifMatch: etag, signal }),
        () => store.read('a', { signal }),
        () => store.readStream('a', { signal }),
        () => store.properties('a', { signal }),
        () => Array.fromAsync(store.list({ signal })),
        () => Array.fromAsync(store.listFolders({ signal })),
        () => store.delete('a', { signal }),
        () => store.createAppend('b', text('x'), { signal }),
        () => store.append('log', text('y'), { signal }),
        () => store.seal('log', { signal }),
        () => store.acquireLease('a', id, 15, { signal }),
        () => store.renewLease('a', id, { signal }),
        () => store.releaseLease('a', id, { signal }),
        () => store.breakLease('a', { signal }),
        () => store.writeLeased('a', text('y'), id, { signal }),
      ];
      for (const call of calls) await expect(call()).rejects.toBe(reason);
      expect(await namesOf(store)).toEqual(['a', 'log']);
      expect(await bodyOf(store, 'a')).toBe('x');
      expect(await bodyOf(store, 'log')).toBe('x');
    });
  });
}

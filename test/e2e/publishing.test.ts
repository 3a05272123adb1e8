import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { failedBatches, recordUpload, sealDueBatches } from '../../src/archive/batches.ts';
import { listReceipts } from '../../src/archive/receipt.ts';
import { publishNow } from '../../src/local/demo/watch.ts';
import { eventTypes, type HistoryEvent } from '../../src/local/durable/protocol.ts';
import { hostFunctions } from '../../src/local/stack.ts';
import { readSourceState } from '../../src/publish/due.ts';
import { wholeIndex } from '../../src/publish/plan.ts';
import type { Snapshot } from '../../src/snapshots/snapshot.ts';
import { type FaultyProxy, startFaultyProxy } from '../kit/faulty-proxy.ts';
import { contentOf } from '../kit/repository.ts';
import { until } from '../kit/until.ts';
import { type Hosted, startHosted } from './hosted.ts';

let hosted: Hosted;
beforeAll(async () => {
  hosted = await startHosted();
});
afterAll(async () => {
  await hosted?.[Symbol.asyncDispose]();
});

async function snapshotsOf(source: string): Promise<Snapshot[]> {
  return await Array.fromAsync(hosted.repository.snapshots.list({ source }));
}

/** Uploads, waits for the events, asks for a publish and waits for it. */
async function drop(source: string, files: Record<string, string>, parent?: Snapshot): Promise<Snapshot> {
  for (const [path, content] of Object.entries(files)) await hosted.put(`${source}/${path}`, content);
  await hosted.recorded(source, Object.keys(files).length);
  await hosted.publish(source);
  return await hosted.published(source, parent);
}

/** Nothing of the source waits any more. */
async function quiet(source: string): Promise<void> {
  await until(`${source} is quiet`, async () => {
    const { receiptsWritten, batchesWaiting, openRecords } = await readSourceState(hosted.repository, source);
    return receiptsWritten.length === 0 && batchesWaiting === 0 && !openRecords ? true : undefined;
  });
}

describe('through the hosted functions on Azurite', () => {
  test('uploads become a snapshot, changed uploads a second one, and nothing new no third', async () => {
    const first = await drop('tree', { a: 'one', 'd/b': 'two', 'd/née 雪': 'three' });
    expect(await contentOf(hosted.repository, first)).toEqual({ a: 'one', 'd/b': 'two', 'd/née 雪': 'three' });
    const second = await drop('tree', { 'd/b': 'two, changed', e: 'new' }, first);
    expect(second).toMatchObject({ parent: first.id, changes: { added: 1, changed: 1, removed: 0 } });
    expect(await contentOf(hosted.repository, second)).toMatchObject({ 'd/b': 'two, changed', e: 'new', a: 'one' });
    // The same content and attributes once more: an event, a batch, a receipt, and no snapshot.
    const { properties } = await hosted.repository.inbox.read('tree/a');
    await hosted.put('tree/a', 'one', { mtime: properties.lastModified.toISOString() });
    await hosted.recorded('tree', 1);
    await hosted.publish('tree');
    await quiet('tree');
    expect((await snapshotsOf('tree')).map(({ id }) => id)).toEqual([first.id, second.id]);
  });

  test('a redelivered event and a redelivered queue message change nothing', async () => {
    const first = await drop('again', { a: 'one' });
    const [batch] = first.batches;
    await hosted.queueBatch('again', batch!.batch);
    await recordUpload(hosted.repository, 'again/a');
    await hosted.publish('again');
    await quiet('again');
    await until('the message was delivered', () =>
      hosted.logs.some((line) => line.includes(`again/${batch!.batch}: retired`)) ? true : undefined,
    );
    expect((await snapshotsOf('again')).map(({ id }) => id)).toEqual([first.id]);
  });

  test('two sources at once each get their snapshot', async () => {
    const [one, two] = await Promise.all([drop('one', { a: 'of one' }), drop('two', { a: 'of two' })]);
    expect(await contentOf(hosted.repository, one)).toEqual({ a: 'of one' });
    expect(await contentOf(hosted.repository, two)).toEqual({ a: 'of two' });
  });

  test('a flush that fails for a while delays the snapshot; the orchestration tries only that again', async () => {
    const first = await drop('delayed', manyFiles('delayed', 40));
    const release = await hosted.blockShards();
    for (const [path, content] of Object.entries(manyFiles('more', 40))) await hosted.put(`delayed/${path}`, content);
    await hosted.recorded('delayed', 40);
    await hosted.publish('delayed');
    await until('a flush failed', () =>
      hosted.logs.find((line) => line.includes('flushShards') && line.includes('leased')),
    );
    expect((await snapshotsOf('delayed')).length).toBe(1);
    await release();
    const second = await hosted.published('delayed', first);
    expect(second.totals.files).toBe(80);
    expect(Object.keys(await contentOf(hosted.repository, second)).length).toBe(80);
  });

  test('a flush that fails for good leaves no snapshot and loses nothing; once it can be written the timer publishes', async () => {
    const first = await drop('blocked', manyFiles('blocked', 40));
    const release = await hosted.blockShards();
    const before = hosted.logs.length;
    for (const [path, content] of Object.entries(manyFiles('later', 40))) await hosted.put(`blocked/${path}`, content);
    await hosted.recorded('blocked', 40);
    await hosted.publish('blocked');
    await until('the orchestration failed', () =>
      hosted.logs.slice(before).find((line) => line.includes('publishSnapshot: FIRN_PUBLISH_FAILED')),
    );
    expect((await snapshotsOf('blocked')).length).toBe(1);
    expect((await Array.fromAsync(listReceipts(hosted.repository.state.store, 'blocked'))).length).toBe(1);
    await release();
    const second = await hosted.published('blocked', first);
    expect(Object.keys(await contentOf(hosted.repository, second)).length).toBe(80);
    expect((await snapshotsOf('blocked')).length).toBe(2);
  });

  test('a batch that cannot be archived goes to the poison queue, is shown, and is archived once it can be', async () => {
    const { repository } = hosted;
    await hosted.put('poison/a', 'one');
    await hosted.recorded('poison', 1);
    const [sealed] = await sealDueBatches(repository, { source: 'poison', force: true });
    const { store } = repository.state;
    const partition = (await Array.fromAsync(store.list({ prefix: 'journal/poison/0' })))[0]!.name;
    const { body } = await store.read(partition);
    await store.delete(partition);
    await hosted.queueBatch('poison', sealed!.batch);
    const failedOfPoison = async () =>
      (await Array.fromAsync(failedBatches(repository))).find(({ source }) => source === 'poison');
    const failed = await until('the batch is shown as failed', failedOfPoison);
    expect(failed.batch).toBe(sealed!.batch);
    expect(await snapshotsOf('poison')).toEqual([]);
    await store.createAppend(partition, body);
    await store.seal(partition);
    await hosted.queueBatch('poison', sealed!.batch);
    const snapshot = await hosted.published('poison', undefined);
    expect(await contentOf(repository, snapshot)).toEqual({ a: 'one' });
    await until('the batch is shown no longer', async () =>
      (await failedOfPoison()) === undefined ? true : undefined,
    );
  });

  test('a blob without a source, and one with an impossible name, stay in the inbox and stop nothing', async () => {
    await hosted.put('no-source', 'x');
    await hosted.put('.hidden/x', 'x');
    await hosted.put('odd//name', 'x');
    await hosted.put('odd/ok', 'y');
    // What has an impossible name is recorded too.
    await hosted.recorded('odd', 2);
    await hosted.publish('odd');
    const snapshot = await hosted.published('odd', undefined);
    expect(await contentOf(hosted.repository, snapshot)).toEqual({ ok: 'y' });
    expect((await hosted.repository.inbox.properties('no-source')).bytes).toBe(1);
  });

  test('asking for a publish of an impossible source is answered with the code', async () => {
    const response = await fetch(`${hosted.stack.hostUrl}/api/publish/.x`, { method: 'POST' });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: 'FIRN_SOURCE_NAME_INVALID' });
  });

  test.runIf(process.platform === 'linux')(
    'a blob of more bytes than the host ever holds goes through by reference only (Linux: reads /proc)',
    async () => {
      const bytes = 768 * 1024 ** 2;
      const piece = randomBytes(1024 ** 2);
      // Different in every mebibyte, so that nothing of it is deduplicated away.
      async function* content() {
        for (let n = 0; n * piece.length < bytes; n += 1) {
          piece.writeUInt32LE(n, 0);
          piece.writeUInt32LE(n, 512 * 1024);
          yield Buffer.from(piece);
        }
      }
      await hosted.repository.inbox.createFromStream('large/blob', content());
      await hosted.recorded('large', 1);
      await hosted.publish('large');
      const snapshot = await hosted.published('large', undefined);
      expect(snapshot.totals).toMatchObject({ files: 1, bytes });
      const status = await readFile(`/proc/${hosted.stack.host.pid}/status`, 'utf8');
      const peakBytes = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
      process.stdout.write(`peak memory of the host: ${peakBytes} bytes for a blob of ${bytes}\n`);
      expect(peakBytes).toBeLessThan(bytes);
    },
  );

  // The last ones: they replace the host.
  test('a host that is killed in the middle of a publish is followed by one that finishes it', async () => {
    const first = await drop('killed', manyFiles('killed', 40));
    const release = await hosted.blockShards();
    for (const [path, content] of Object.entries(manyFiles('rest', 40))) await hosted.put(`killed/${path}`, content);
    await hosted.recorded('killed', 40);
    const before = hosted.logs.length;
    await hosted.publish('killed');
    await until('the publish is under way', () =>
      hosted.logs.slice(before).find((line) => line.includes('flushShards') && line.includes('leased')),
    );
    await hosted.stack.host.kill();
    await release();
    expect((await snapshotsOf('killed')).length).toBe(1);
    await using _next = await hostFunctions(hosted.stack.environment, { httpPort: 0 });
    const second = await hosted.published('killed', first);
    expect(Object.keys(await contentOf(hosted.repository, second)).length).toBe(80);
    expect((await snapshotsOf('killed')).length).toBe(2);
  });

  test('one publish flushes shards and builds filetrees at the same time, and its snapshot waits for both', async () => {
    const { host: replaced, environment, connectionString } = hosted.stack;
    await replaced.kill();
    const proxy = await startFaultyProxy(connectionString);
    onTestFinished(() => proxy.stop());
    const storage = { ...environment, FIRN_STORAGE: proxy.connectionString };
    await using host = await hostFunctions(storage, { httpPort: 0 });
    const flushes = wholeIndex.length / hosted.repository.settings.flushRootsPerActivity;
    let parent: Snapshot | undefined;
    for (const [held, others] of [
      ['filetrees', new Array<string>(flushes).fill('flushShards')],
      ['chunk-index', ['buildFiletrees', ...new Array<string>(flushes - 1).fill('flushShards')]],
    ] as const) {
      const release = holdOneWrite(proxy, held);
      try {
        for (let n = 0; n < 8; n += 1) await hosted.put(`overlap/${n}/${held}`, `${n} ${held}`);
        await hosted.recorded('overlap', 8);
        await publishNow(host.url, 'overlap');
        const { scheduled } = await until(`only the write below ${held} is missing`, async () => {
          const tasks = await tasksOf(host.url, 'overlap');
          return tasks.completed.join() === ['planPublish', ...others].toSorted().join() ? tasks : undefined;
        });
        expect(scheduled).not.toContain('commitSnapshot');
        expect((await hosted.repository.snapshots.readHead('overlap'))?.snapshot.id).toBe(parent?.id);
      } finally {
        release();
      }
      const snapshot = await hosted.published('overlap', parent);
      expect(snapshot.totals.files).toBe((parent?.totals.files ?? 0) + 8);
      parent = snapshot;
    }
    expect(Object.keys(await contentOf(hosted.repository, parent!))).toHaveLength(16);
  });
});

const steps = ['chunk-index', 'filetrees'] as const;

/**
 * Writes of shards and of filetrees reach the storage only once there is one of each; and the first below `held` only
 * when it is released.
 */
function holdOneWrite(proxy: FaultyProxy, held: (typeof steps)[number]): () => void {
  const arrived = new Map(steps.map((step) => [step, Promise.withResolvers<void>()]));
  const both = Promise.all([...arrived.values()].map(({ promise }) => promise));
  const released = Promise.withResolvers<void>();
  let isHeld = false;
  proxy.hold = (method, url) => {
    const step = steps.find((each) => method === 'PUT' && decodeURIComponent(url).includes(`/${each}/`));
    if (step === undefined) return undefined;
    arrived.get(step)?.resolve();
    if (step !== held || isHeld) return both;
    isHeld = true;
    return Promise.all([both, released.promise]);
  };
  return () => {
    released.resolve();
    for (const { resolve } of arrived.values()) resolve();
  };
}

interface Tasks {
  /** Names of activities, in alphabetical order. */
  readonly scheduled: readonly string[];
  readonly completed: readonly string[];
}

/** What the running publish of a source has asked for, and what of it is done: its history tells both in one. */
async function tasksOf(hostUrl: string, source: string): Promise<Tasks> {
  const path = `/runtime/webhooks/durabletask/instances/publish-${source}?showHistory=true`;
  const response = await fetch(hostUrl + path);
  if (response.status === 404) return { scheduled: [], completed: [] };
  const status = (await response.json()) as { runtimeStatus?: string; historyEvents?: HistoryEvent[] };
  const events = status.runtimeStatus === 'Running' ? (status.historyEvents ?? []) : [];
  const ofType = (type: number) => events.filter(({ EventType }) => EventType === type);
  const names = new Map(ofType(eventTypes.TaskScheduled).map(({ EventId, Name }) => [EventId, String(Name)]));
  const completed = ofType(eventTypes.TaskCompleted).map((event) => names.get(Number(event.TaskScheduledId)) ?? '');
  return { scheduled: [...names.values()].toSorted(), completed: completed.toSorted() };
}

/** Files of different content, so many that most roots of the index get a chunk. */
function manyFiles(name: string, count: number): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, n) => [`${name}/${n}`, `${name} ${n} `.repeat(20)]));
}

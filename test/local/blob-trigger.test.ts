import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../kit/until.ts';
import { type Fixture, startFixture } from './fixture.ts';

const MiB = 1024 * 1024;
let app: Fixture;

beforeAll(async () => {
  app = await startFixture({ settings: { WATCH_POISON_BLOBS: '1' } });
});
afterAll(() => app.stop());

interface Arrival {
  readonly reference: { readonly Connection: string; readonly ContainerName: string; readonly BlobName: string };
  readonly contentLength: number;
  readonly maxRssKiB: number;
  readonly metadata: {
    readonly uri: string;
    readonly properties: Record<string, unknown>;
    readonly metadata: Record<string, string>;
  } & Record<string, unknown>;
}

async function upload(name: string, body: string | Buffer, metadata: Record<string, string> = {}): Promise<string> {
  const { etag } = await app.inbox.getBlockBlobClient(name).uploadData(Buffer.from(body), { metadata });
  return etag ?? '';
}

/** Waits until the host has listed everything there is and has nothing left to do. */
async function settled(): Promise<void> {
  const marker = `marker-${Math.random()}`;
  await upload(`zz/${marker}`, 'x');
  await app.effectsOf('arrived', `zz_${marker}`);
}

test('a blob arrives as a reference, with names, ETag, length and metadata', async () => {
  const etag = await upload('photos/2024/a b.jpg', 'content', { mtime: '2024-01-02T03:04:05Z' });
  const [arrival] = (await app.effectsOf('arrived', 'photos_2024_a b.jpg')) as Arrival[];
  expect(arrival?.reference).toEqual({
    Connection: 'FIXTURE_STORAGE',
    ContainerName: app.inbox.containerName,
    BlobName: 'photos/2024/a b.jpg',
  });
  expect(arrival?.metadata).toMatchObject({
    blobTrigger: `${app.inbox.containerName}/photos/2024/a b.jpg`,
    uri: app.inbox.getBlobClient('photos/2024/a b.jpg').url,
    metadata: { mtime: '2024-01-02T03:04:05Z' },
    properties: {
      eTag: etag,
      contentLength: 7,
      lastModified: expect.stringMatching(/^\d{4}-/),
      contentType: 'application/octet-stream',
    },
    source: 'photos/2024',
    name: 'a b.jpg',
  });
});

test('a blob is delivered again only when its ETag is another', async () => {
  await upload('again/one', 'first');
  await app.effectsOf('arrived', 'again_one');
  await settled();
  expect(await app.effects('arrived', 'again_one')).toHaveLength(1);

  const etag = await upload('again/one', 'second');
  const arrivals = (await app.effectsOf('arrived', 'again_one', 2)) as Arrival[];
  expect(arrivals.map(({ metadata }) => metadata.properties.eTag)).toContain(etag);
});

test('a restart delivers only what is new', async () => {
  await upload('restart/old', 'x');
  await app.effectsOf('arrived', 'restart_old');
  await settled();
  await app.stop();
  await upload('restart/new', 'x');
  await app.start();
  await app.effectsOf('arrived', 'restart_new');
  await settled();
  expect(await app.effects('arrived', 'restart_old')).toHaveLength(1);
});

test('a large blob goes by reference: the host never holds it', async () => {
  await upload('small/before', 'x');
  const [before] = (await app.effectsOf('arrived', 'small_before')) as Arrival[];
  const block = app.inbox.getBlockBlobClient('large/blob');
  const ids: string[] = [];
  for (let n = 0; n < 12; n += 1) {
    const id = Buffer.from(String(n).padStart(4, '0')).toString('base64');
    await block.stageBlock(id, Buffer.alloc(16 * MiB, n), 16 * MiB);
    ids.push(id);
  }
  await block.commitBlockList(ids);
  const [after] = (await app.effectsOf('arrived', 'large_blob')) as Arrival[];
  expect(after?.contentLength).toBe(192 * MiB);
  expect((after?.maxRssKiB ?? 0) - (before?.maxRssKiB ?? 0)).toBeLessThan(64 * 1024);
});

test('a blob whose function fails is tried five times, then named in the poison queue and left alone', async () => {
  await upload('bad/one', 'x');
  const [message] = (await app.effectsOf('poison-blob', 'bad_one')) as Record<string, string>[];
  expect(message).toMatchObject({
    Type: 'BlobTrigger',
    FunctionId: 'Host.Functions.arrived',
    ContainerName: app.inbox.containerName,
    BlobName: 'bad/one',
  });
  await settled();
  expect(await app.effects('arrived', 'bad_one')).toHaveLength(5);
});

test('a function without sdkBinding is given the content', async () => {
  await app.small.getBlockBlobClient('note').uploadData(Buffer.from('short'));
  expect(await app.effectsOf('content', `${app.small.containerName}/note`)).toEqual(['short']);
});

test('many blobs arrive once each', async () => {
  const names = Array.from({ length: 60 }, (_, n) => `many/${n}`);
  await Promise.all(names.map((name) => upload(name, name)));
  await until('all have arrived', async () => {
    const counts = await Promise.all(names.map((name) => app.effects('arrived', name.replace('/', '_'))));
    return counts.every(({ length }) => length === 1) ? true : undefined;
  });
});

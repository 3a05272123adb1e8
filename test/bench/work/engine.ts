/**
 * The engine alone: a folder archived and published into a store in memory, beside its primitives on the same bytes in
 * the same process, one after another, the fastest of three rounds; and a profile that names where the rest is spent.
 */
import { createCipheriv } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { type Profiler, Session } from 'node:inspector/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { constants, zstdCompressSync } from 'node:zlib';
import { chunkWriterSizes } from '../../../src/chunks/chunk-writer.ts';
import { archiveAndPublish } from '../../../src/cli/archive-and-publish.ts';
import type { Repository } from '../../../src/repository.ts';
import { createTestRepository } from '../../kit/repository.ts';
import { type Took, timed } from '../measuring.ts';
import { type DataSet, makeDataSet, type SetName, setNames } from '../peers/data-sets.ts';
import { formatBytes, formatCount, formatSeconds, markdownTable } from '../report.ts';

const MiB = 1024 * 1024;
const ROUNDS = 3;
const NAMED = 10;
const SAMPLED_MICROSECONDS = 200;
const root = fileURLToPath(new URL('../../../', import.meta.url));

const primitives = ['read', 'hash', 'chunk', 'compress', 'encrypt'] as const;
type Primitive = (typeof primitives)[number];

async function archive(folder: string, prepare?: (repository: Repository) => void): Promise<Repository> {
  const { repository } = await createTestRepository();
  prepare?.(repository);
  await archiveAndPublish(repository, folder, 'bench');
  return repository;
}

/** The bytes that the engine hashes for a folder: each of them more than once. */
async function hashedBytes(folder: string): Promise<number> {
  let bytes = 0;
  await archive(folder, ({ keys }) => {
    const { hash, hasher } = keys;
    const count = <T>(each: Uint8Array, work: (bytes: Uint8Array) => T): T => {
      bytes += each.length;
      return work(each);
    };
    Object.assign(keys, {
      hash: (each: Uint8Array) => count(each, hash),
      hasher: () => {
        const inner = hasher();
        return { ...inner, update: (each: Uint8Array) => count(each, inner.update) };
      },
    });
  });
  return bytes;
}

/** What cannot be left out, done in the simplest way. What the engine stores once is compressed and encrypted once. */
async function measurePrimitives({ keys, chunker }: Repository, folder: string, toHash: number) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  const read = await timed(async () => files.map((file) => readFileSync(file)));
  const chunk = await timed(async () => {
    const chunks: Buffer[] = [];
    for (const content of read.result) {
      if (chunker && content.length > chunker.minBytes)
        chunks.push(...(await Array.fromAsync(chunker.chunks([content]))));
      else chunks.push(content);
    }
    return chunks;
  });
  const different = new Map(chunk.result.map((each) => [keys.hash(each), each]));
  const hash = await timed(async () => {
    for (let left = toHash, n = 0; left > 0; n += 1) {
      const each = chunk.result[n % chunk.result.length] ?? Buffer.alloc(1);
      keys.hash(each);
      left -= each.length;
    }
  });
  const stored = Buffer.concat([...different.values()]);
  const frameBytes = chunkWriterSizes.frameRawBytesTarget;
  const options = { chunkSize: frameBytes + (frameBytes >> 7), params: { [constants.ZSTD_c_compressionLevel]: 3 } };
  const compress = await timed(async () => {
    const frames: Buffer[] = [];
    for (let at = 0; at < stored.length; at += frameBytes) {
      frames.push(zstdCompressSync(stored.subarray(at, at + frameBytes), options));
    }
    return frames;
  });
  const key = Buffer.alloc(32, 7);
  const encrypt = await timed(async () => {
    for (const [n, frame] of compress.result.entries()) {
      const nonce = Buffer.alloc(12);
      nonce.writeUInt32LE(n);
      const cipher = createCipheriv('aes-256-gcm', key, nonce);
      cipher.update(frame);
      cipher.final();
      cipher.getAuthTag();
    }
  });
  return { read: read.took, hash: hash.took, chunk: chunk.took, compress: compress.took, encrypt: encrypt.took };
}

/** Function and file; what is not Firn's own with the nearest function of Firn that it is for. */
function namesOf(nodes: readonly Profiler.ProfileNode[]): Map<number, string> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const names = new Map<number, string>();
  const visit = (id: number, owner: string) => {
    const node = byId.get(id);
    if (node === undefined) return;
    const { functionName, url } = node.callFrame;
    const file = url.startsWith('file:') ? path.relative(root, fileURLToPath(url)) : url;
    const name = [functionName || '(anonymous)', file].join(' ').trim();
    const isOwn = file.startsWith('src/');
    names.set(id, isOwn || owner === '' ? name : `${name} ← ${owner}`);
    for (const child of node.children ?? []) visit(child, isOwn ? name : owner);
  };
  const [top] = nodes;
  if (top) visit(top.id, '');
  return names;
}

/** The largest self times, as shares of the time in which the main thread did not wait. */
async function profile(work: () => Promise<unknown>) {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: SAMPLED_MICROSECONDS });
  await session.post('Profiler.start');
  await work();
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  const names = namesOf(profile.nodes);
  const samples = new Map<string, number>();
  // Samples are counted: the time between two of them may be another process's.
  for (const id of profile.samples ?? []) {
    const name = names.get(id) ?? '';
    samples.set(name, (samples.get(name) ?? 0) + 1);
  }
  const total = profile.samples?.length ?? 0;
  const idle = samples.get('(idle)') ?? 0;
  samples.delete('(idle)');
  const sorted = [...samples].sort(([, a], [, b]) => b - a).slice(0, NAMED);
  return { idleShare: idle / total, named: sorted.map(([name, count]) => ({ name, share: count / (total - idle) })) };
}

async function measureSet(set: DataSet) {
  const hashed = await hashedBytes(set.folder);
  const engine: Took[] = [];
  const rounds: Readonly<Record<Primitive, Took>>[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const { result, took } = await timed(() => archive(set.folder));
    engine.push(took);
    rounds.push(await measurePrimitives(result, set.folder, hashed));
  }
  const fastest = primitives.map((each) => [each, fastestOf(rounds.map((round) => round[each]))] as const);
  const { folder: _, ...of } = set;
  return {
    ...of,
    hashedBytes: hashed,
    engine: fastestOf(engine),
    primitives: Object.fromEntries(fastest) as Record<Primitive, Took>,
    sum: {
      seconds: fastest.reduce((total, [, { seconds }]) => total + seconds, 0),
      cpuSeconds: fastest.reduce((total, [, { cpuSeconds }]) => total + cpuSeconds, 0),
    },
    profile: await profile(() => archive(set.folder)),
  };
}

function fastestOf(all: readonly Took[]): Took {
  return {
    seconds: Math.min(...all.map(({ seconds }) => seconds)),
    cpuSeconds: Math.min(...all.map(({ cpuSeconds }) => cpuSeconds)),
  };
}

const formatTook = ({ seconds, cpuSeconds }: Took) => `${formatSeconds(seconds)}, CPU ${formatSeconds(cpuSeconds)}`;
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

export async function measureEngine({ scale, folder }: { readonly scale: number; readonly folder: string }) {
  const bytes = Math.ceil(128 * MiB * scale);
  const sizes = { noiseBytes: bytes, logBytes: bytes, smallFiles: Math.ceil(8_000 * scale) };
  const make = (name: SetName) => makeDataSet(name, sizes, folder, path.join(root, 'node_modules'));
  const sets: Awaited<ReturnType<typeof measureSet>>[] = [];
  for (const name of setNames) sets.push(await measureSet(await make(name)));
  const row = (title: string, of: (set: (typeof sets)[number]) => string) => [title, ...sets.map(of)];
  const text = [
    markdownTable(
      ['seconds and CPU seconds', ...sets.map(({ name, bytes }) => `${name}, ${formatBytes(bytes)}`)],
      [
        row('files', ({ files }) => formatCount(files)),
        row('hashed, for each byte', ({ hashedBytes, bytes }) => `${(hashedBytes / bytes).toFixed(2)} times`),
        ...primitives.map((each) => row(each, (set) => formatTook(set.primitives[each]))),
        row('sum of the primitives', ({ sum }) => formatTook(sum)),
        row('engine', ({ engine }) => formatTook(engine)),
        row('engine ÷ sum, seconds', ({ engine, sum }) => (engine.seconds / sum.seconds).toFixed(2)),
        row('engine ÷ sum, CPU seconds', ({ engine, sum }) => (engine.cpuSeconds / sum.cpuSeconds).toFixed(2)),
      ],
    ),
    ...sets.map(({ name, profile: { idleShare, named } }) =>
      [
        `Profile of ${name}: the main thread waits ${percent(idleShare)} of the time, and else is in`,
        '',
        markdownTable(
          ['function', 'self time'],
          named.map((each) => [each.name, percent(each.share)]),
        ),
      ].join('\n'),
    ),
  ].join('\n\n');
  return { figures: sets, text };
}

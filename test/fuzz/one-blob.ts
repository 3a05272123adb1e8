/** Every way in which storage, or who can write to it, changes one blob of a world. */
import { FRAME_HEADER_BYTES } from '../../src/sealing/frame.ts';
import type { MemoryAccount } from '../kit/memory-blob-store.ts';
import type { World } from './small-world.ts';

const kinds = {
  config: /^config$/,
  key: /^keys\//,
  chunk: /^chunks\//,
  thin: /^thin\//,
  filetree: /^filetrees\//,
  snapshot: /^snapshots\//,
  shard: /^chunk-index\//,
  head: /^heads\//,
  manifest: /^journal\/.*\/manifest$/,
  filter: /\.filter$/,
  partition: /^journal\//,
  changes: /\/changes-\d+$/,
  'receipt index': /^receipts\/.*\/index$/,
  receipt: /^receipts\/.*\/receipt$/,
  plan: /^plans\//,
  queued: /^queued\//,
  failed: /^failed\//,
  lock: /^locks\//,
} as const;

export type Kind = keyof typeof kinds;

interface Blob {
  readonly container: 'firn-data' | 'firn-state';
  readonly name: string;
  readonly kind: Kind;
  readonly body: Buffer;
}

export interface Case {
  readonly label: string;
  readonly kind: Kind;
  readonly way: 'flip' | 'cut' | 'grow' | 'swap' | 'replay' | 'revive' | 'lose' | 'metadata';
  /** The rest of the account stays as it is. */
  readonly change: (account: MemoryAccount) => unknown;
}

async function blobsOf(account: MemoryAccount): Promise<Blob[]> {
  const blobs: Blob[] = [];
  for (const container of ['firn-data', 'firn-state'] as const) {
    const store = account.container(container);
    for await (const { name } of store.list()) {
      const kind = (Object.keys(kinds) as Kind[]).find((each) => kinds[each].test(name));
      if (kind === undefined) throw new Error(`${name} is of no known kind`);
      blobs.push({ container, name, kind, body: (await store.read(name)).body });
    }
  }
  return blobs;
}

/** Where a header, a frame or a record ends. */
function boundariesOf({ body, kind }: Blob): number[] {
  const ends = [0, 1, FRAME_HEADER_BYTES, body.length >> 1, body.length - 1];
  const mark = kind === 'partition' ? Buffer.from([0xff, 0x46, 0x52, 0xfe]) : Buffer.from('FIRN');
  for (let at = body.indexOf(mark, 1); at > 0; at = body.indexOf(mark, at + 1)) ends.push(at);
  return [...new Set(ends)].filter((at) => at >= 0 && at < body.length);
}

/** One bit of every so many bytes: among the fields at the beginning, and all over the rest. */
function flipped({ body }: Blob): Buffer[] {
  const step = Math.max(1, Math.floor(body.length / 6));
  const copies: Buffer[] = [];
  for (let at = 0; at < body.length; at += at < 24 ? 4 : step) {
    const bytes = Buffer.from(body);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << ((at * 5) % 8)), at);
    copies.push(bytes);
  }
  return copies;
}

export async function casesOf(world: Pick<World, 'account' | 'earlier'>): Promise<Case[]> {
  const blobs = await blobsOf(world.account);
  const earlier = await Promise.all(world.earlier.map(blobsOf));
  const cases: Case[] = [];
  for (const blob of blobs) {
    const { container, name, kind, body } = blob;
    const put = (way: Case['way'], what: string, bytes: Buffer) => {
      const change = (account: MemoryAccount) => account.overwrite(container, name, bytes);
      if (!bytes.equals(body)) cases.push({ label: `${name}: ${what}`, kind, way, change });
    };
    for (const [at, bytes] of flipped(blob).entries()) put('flip', `a bit, the ${at}.`, bytes);
    for (const end of boundariesOf(blob)) put('cut', `cut to ${end} bytes`, body.subarray(0, end));
    put('grow', 'twice', Buffer.concat([body, body]));
    const strangers = new Map(blobs.map((other) => [other.kind, other]));
    for (const other of blobs) {
      const isTried = other.kind === kind || strangers.get(other.kind) === other;
      if (isTried) put('swap', `with the bytes of ${other.name}`, other.body);
      if (kind !== 'chunk' || other.kind !== 'chunk' || other === blob) continue;
      // Metadata proves nothing.
      const change = async (account: MemoryAccount) => {
        const store = account.container(container);
        const { metadata } = await store.properties(other.name);
        await store.delete(name);
        await store.create(name, body, { metadata });
      };
      cases.push({ label: `${name}: with the metadata of ${other.name}`, kind, way: 'metadata', change });
    }
    const lose = (account: MemoryAccount) => account.container(container).delete(name);
    cases.push({ label: `${name}: gone`, kind, way: 'lose', change: lose });
    for (const [at, olds] of earlier.entries()) {
      const old = olds.find((each) => each.name === name);
      if (old) put('replay', `as it was at moment ${at}`, old.body);
    }
  }
  for (const [at, olds] of earlier.entries()) {
    for (const old of olds) {
      if (!blobs.some(({ name }) => name === old.name)) cases.push(revivalOf(old, at));
    }
  }
  return cases;
}

/** A blob that was deleted since is there again. */
function revivalOf({ container, name, kind, body }: Blob, moment: number): Case {
  const change = async (account: MemoryAccount) => {
    const store = account.container(container);
    if (kind !== 'partition') await store.create(name, body);
    else {
      await store.createAppend(name, body);
      await store.seal(name);
    }
  };
  return { label: `${name}: back from moment ${moment}`, kind, way: 'revive', change };
}

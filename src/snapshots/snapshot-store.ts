/**
 * Snapshots and heads on storage. A snapshot is created once and never changed. A head is the mutable pointer of a
 * source to its latest snapshot; it moves only by compare-and-swap, and a missing or damaged head is rebuilt from the
 * snapshots themselves.
 *
 * A damaged snapshot must not stop the other sources. Its metadata has a keyed hash of its source; where an older Firn
 * wrote it, the snapshot that follows it or a head tells. Metadata is believed of damaged snapshots only.
 */
import { LRUCache } from 'lru-cache';
import { pMapIterable } from 'p-map';
import { FirnError, isFirnError } from '../errors.ts';
import type { Hash, Keys } from '../sealing/keys.ts';
import type { SealedBlobs } from '../sealing/sealed-blobs.ts';
import { type BlobStore, type CallOptions, propertiesIfThere } from '../storage/blob-store.ts';
import { parseJsonBlob } from '../storage/json-blob.ts';
import { encodeSnapshot, idInName, parseSnapshot, SNAPSHOT_PREFIX, type Snapshot, snapshotName } from './snapshot.ts';

const READS_IN_FLIGHT = 16;
const HEAD_FORMAT = 1;
const HEAD_PREFIX = 'heads/';
const CANDIDATES_NAMED_MAX = 8;
const SOURCES_KNOWN_MAX = 10_000;
/** Manifests that a run keeps; one names a thousand batches and a thousand skipped paths at most. */
const MANIFESTS_KEPT_MAX = 8;
const SOURCE_METADATA = 'firn_source';

export interface Head {
  readonly snapshot: Snapshot;
  readonly etag: string;
}

/** What a snapshot says of its neighbours. */
type Links = Pick<Snapshot, 'source' | 'parent'>;

export interface DamagedSnapshot {
  readonly name: string;
  readonly error: FirnError;
}

/** The ETag of the head of a source, which needs no keys; undefined where there is no head. */
export async function headEtag(
  state: Pick<BlobStore, 'properties'>,
  source: string,
  options?: CallOptions,
): Promise<string | undefined> {
  return (await propertiesIfThere(state, headName(source), options))?.etag;
}

export class SnapshotStore {
  readonly #data: SealedBlobs;
  readonly #state: SealedBlobs;
  readonly #keys: Pick<Keys, 'hash'>;
  /** Of a snapshot, by its name; snapshots never change. */
  #links = new LRUCache<string, Links>({ max: SOURCES_KNOWN_MAX });
  /** Of a run: the manifests that heads named, and those that it wrote, by their names. */
  #kept: LRUCache<string, Snapshot> | undefined;

  constructor(data: SealedBlobs, state: SealedBlobs, keys: Pick<Keys, 'hash'>) {
    this.#data = data;
    this.#state = state;
    this.#keys = keys;
  }

  /**
   * The same snapshots for one run of archiving or publishing, which asks for the head of its source at each step: the
   * manifest of a head is read once. Whoever wants to know whether it can be read now does not ask a run.
   */
  forRun(): SnapshotStore {
    if (this.#kept !== undefined) return this;
    const store = new SnapshotStore(this.#data, this.#state, this.#keys);
    store.#links = this.#links;
    store.#kept = new LRUCache({ max: MANIFESTS_KEPT_MAX });
    return store;
  }

  /** Writes the manifest. @returns what is stored under its name: this one, or the one that was there before. */
  async create(snapshot: Snapshot, options?: CallOptions): Promise<Snapshot> {
    const name = snapshotName(snapshot);
    const metadata = { [SOURCE_METADATA]: this.#sourceTag(snapshot.source) };
    const created = await this.#data.create('snapshot', name, encodeSnapshot(snapshot), { ...options, metadata });
    if (created === undefined) return await this.get(name, options);
    this.#kept?.set(name, snapshot);
    return snapshot;
  }

  /** @throws FIRN_BLOB_MISSING, FIRN_SEAL_BROKEN, FIRN_BLOB_DAMAGED, FIRN_REPOSITORY_NEWER. */
  async get(name: string, options?: CallOptions): Promise<Snapshot> {
    return parseSnapshot(name, (await this.#data.get('snapshot', name, options)).body);
  }

  /** Names of all snapshots, oldest first. */
  async names(options?: CallOptions): Promise<string[]> {
    const names: string[] = [];
    for await (const { name } of this.#data.store.list({ ...options, prefix: SNAPSHOT_PREFIX })) {
      if (idInName(name) !== undefined) names.push(name);
    }
    return names;
  }

  /** All snapshots, oldest first, of one source or of all. A damaged one is handed to `onDamaged`, or thrown. */
  async *list(
    options: CallOptions & { source?: string | undefined; onDamaged?: (damaged: DamagedSnapshot) => void } = {},
  ): AsyncGenerator<Snapshot> {
    const { signal, source, onDamaged } = options;
    const read = async (name: string): Promise<Snapshot | DamagedSnapshot> => {
      try {
        return await this.get(name, { signal });
      } catch (error) {
        if (onDamaged && isDamage(error)) {
          return { name, error };
        }
        throw error;
      }
    };
    const names = await this.names({ signal });
    for await (const found of pMapIterable(names, read, { concurrency: READS_IN_FLIGHT })) {
      if ('error' in found) onDamaged?.(found);
      else if (source === undefined || found.source === source) yield found;
    }
  }

  /**
   * Finds a snapshot by what a user typed: an id, a unique prefix of one, `latest`, or `latest:<source>`.
   * @throws FIRN_SNAPSHOT_UNKNOWN, FIRN_SNAPSHOT_AMBIGUOUS.
   */
  async resolve(text: string, options?: CallOptions): Promise<Snapshot> {
    if (text.startsWith('latest:')) {
      const head = await this.readHead(text.slice('latest:'.length), options);
      if (head === undefined) throw new FirnError('FIRN_SNAPSHOT_UNKNOWN', { snapshot: text });
      return head.snapshot;
    }
    const names = await this.names(options);
    const matches = text === 'latest' ? names.slice(-1) : names.filter((name) => idInName(name)?.startsWith(text));
    const [name] = matches;
    if (name === undefined || text === '') throw new FirnError('FIRN_SNAPSHOT_UNKNOWN', { snapshot: text });
    if (matches.length > 1) {
      const ids = matches.slice(0, CANDIDATES_NAMED_MAX).map((match) => idInName(match));
      const more = matches.length > ids.length ? `, and ${matches.length - ids.length} more` : '';
      throw new FirnError('FIRN_SNAPSHOT_AMBIGUOUS', { snapshot: text, candidates: ids.join(', ') + more });
    }
    return await this.get(name, options);
  }

  /** The latest snapshot of a source; undefined when it has none. Rebuilds a head that is missing or damaged. */
  async readHead(source: string, options?: CallOptions): Promise<Head | undefined> {
    const blob = headName(source);
    const raw = await this.#readHeadBlob(source, options);
    if (raw !== undefined && 'snapshot' in raw) {
      const snapshot = this.#kept?.get(raw.snapshot) ?? (await this.get(raw.snapshot, options));
      this.#kept?.set(raw.snapshot, snapshot);
      if (snapshot.source === source) return { snapshot, etag: raw.etag };
    }
    const tip = await this.#newest(source, options);
    if (tip === undefined) return undefined;
    const body = encodeHead(tip);
    const written =
      raw === undefined
        ? await this.#state.create('head', blob, body, options)
        : await this.#state.replace('head', blob, body, { ...options, ifMatch: raw.etag });
    return written === undefined ? await this.readHead(source, options) : { snapshot: tip, etag: written.etag };
  }

  /** The sources that have a head. */
  async *sources(options?: CallOptions): AsyncGenerator<string> {
    for await (const { name } of this.#state.store.list({ ...options, prefix: HEAD_PREFIX })) {
      yield name.slice(HEAD_PREFIX.length);
    }
  }

  /** Moves the head of the snapshot's source to it. @returns false when the head is no longer `from`. */
  async moveHead(from: Head | undefined, to: Snapshot, options?: CallOptions): Promise<boolean> {
    const blob = headName(to.source);
    const moved =
      from === undefined
        ? await this.#state.create('head', blob, encodeHead(to), options)
        : await this.#state.replace('head', blob, encodeHead(to), { ...options, ifMatch: from.etag });
    return moved !== undefined;
  }

  async #readHeadBlob(
    source: string,
    options?: CallOptions,
  ): Promise<{ snapshot: string; etag: string } | { etag: string } | undefined> {
    const blob = headName(source);
    try {
      const found = await this.#state.find('head', blob, options);
      if (found === undefined) return undefined;
      const { snapshot } = parseJsonBlob(blob, found.body, HEAD_FORMAT);
      const isName = typeof snapshot === 'string' && idInName(snapshot) !== undefined;
      return isName ? { snapshot, etag: found.etag } : { etag: found.etag };
    } catch (error) {
      if (!isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED')) throw error;
      return { etag: (await this.#state.store.properties(blob, options)).etag };
    }
  }

  /**
   * The newest snapshot of a source by the names' order; publishes of one source follow one another in time.
   * @throws the error of a damaged snapshot that is newer, unless it is another source's: it may be the one, and the source
   * must not go on without it.
   */
  async #newest(source: string, options?: CallOptions): Promise<Snapshot | undefined> {
    let newest: Snapshot | undefined;
    const known: Links[] = [];
    let damaged: DamagedSnapshot[] = [];
    for await (const snapshot of this.list({ ...options, onDamaged: (each) => damaged.push(each) })) {
      known.push({ source: snapshot.source, parent: snapshot.parent });
      if (snapshot.source !== source) continue;
      newest = snapshot;
      damaged = [];
    }
    for (const each of damaged) {
      if ((await this.#ownerOf(each.name, source, known, options)) !== 'other') throw each.error;
    }
    return newest;
  }

  /**
   * The newest snapshot of the head's source that was published after the head; undefined where the head is the newest,
   * as it is unless the state container was brought back from an older copy. One that went on from an earlier snapshot than
   * the head is none: it was published beside it, and what it holds is not in the head. A damaged one that may be of any source is
   * handed to `onDamaged`.
   * @throws the error of a damaged snapshot of the source that is newer.
   */
  async laterThan(
    head: Head,
    { onDamaged, ...options }: CallOptions & { onDamaged?: (damaged: DamagedSnapshot) => void } = {},
  ): Promise<Snapshot | undefined> {
    const { source } = head.snapshot;
    const from = snapshotName(head.snapshot);
    let latest: Snapshot | undefined;
    const later = new Map<string, Snapshot>();
    const known: Links[] = [];
    let damaged: DamagedSnapshot[] = [];
    const names = await this.names(options);
    const early = new Set(names.filter((name) => name <= from).map(idInName));
    for (const name of names) {
      if (name <= from) continue;
      const links = this.#links.get(name);
      if (links !== undefined && links.source !== source) {
        known.push(links);
        continue;
      }
      try {
        const snapshot = await this.get(name, options);
        const { parent } = snapshot;
        known.push({ source: snapshot.source, parent });
        this.#links.set(name, { source: snapshot.source, parent });
        if (snapshot.source !== source) continue;
        later.set(snapshot.id, snapshot);
        if (!goesOnFrom(head.snapshot, snapshot, later, early)) continue;
        latest = snapshot;
        damaged = [];
      } catch (error) {
        if (!isDamage(error)) throw error;
        damaged.push({ name, error });
      }
    }
    for (const each of damaged) {
      const owner = await this.#ownerOf(each.name, source, known, options);
      if (owner === 'source') throw each.error;
      if (owner === 'unknown') onDamaged?.(each);
    }
    return latest;
  }

  /** Whether a damaged snapshot is of this source. @param known of the snapshots that are whole. */
  async #ownerOf(
    name: string,
    source: string,
    known: readonly Links[],
    options?: CallOptions,
  ): Promise<'source' | 'other' | 'unknown'> {
    const tag = await this.#tagOf(name, options);
    if (tag !== undefined) return tag === this.#sourceTag(source) ? 'source' : 'other';
    const next = known.find(({ parent }) => parent !== undefined && parent === idInName(name));
    if (next !== undefined) return next.source === source ? 'source' : 'other';
    for await (const each of this.sources(options)) {
      const head = await this.#readHeadBlob(each, options);
      if (head && 'snapshot' in head && head.snapshot === name) return each === source ? 'source' : 'other';
    }
    return 'unknown';
  }

  async #tagOf(name: string, options?: CallOptions): Promise<string | undefined> {
    return (await propertiesIfThere(this.#data.store, name, options))?.metadata[SOURCE_METADATA];
  }

  /** Tells the sources of snapshots apart without telling their names. */
  #sourceTag(source: string): Hash {
    return this.#keys.hash(Buffer.from(`source\0${source}`));
  }
}

/**
 * Whether one snapshot followed the other, by the parents in between. Where one of those cannot be read it is believed. Pure.
 * @param later those after the head that can be read, by their ids.
 * @param early ids of the head and of all that is before it.
 */
function goesOnFrom(
  head: Snapshot,
  snapshot: Snapshot,
  later: ReadonlyMap<string, Snapshot>,
  early: ReadonlySet<string | undefined>,
): boolean {
  let at = snapshot;
  for (;;) {
    const { parent } = at;
    if (parent === head.id) return true;
    if (parent === undefined || early.has(parent)) return false;
    const before = later.get(parent);
    // A parent is earlier than its child, so this ends.
    if (before === undefined || snapshotName(before) >= snapshotName(at)) return true;
    at = before;
  }
}

function isDamage(error: unknown): error is FirnError {
  return isFirnError(error, 'FIRN_SEAL_BROKEN', 'FIRN_BLOB_DAMAGED', 'FIRN_BLOB_MISSING');
}

function headName(source: string): string {
  return `${HEAD_PREFIX}${source}`;
}

function encodeHead(snapshot: Snapshot): Buffer {
  return Buffer.from(JSON.stringify({ format: HEAD_FORMAT, snapshot: snapshotName(snapshot) }));
}

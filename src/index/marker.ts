/**
 * The marker of an unfinished repair: the blob `repair` in the state container, there from before the first change of a
 * repair until after its last. Every instance sees it. While it stands, the index may lack chunks that are durable, so
 * whoever needs the index refuses (`refuseDuringRepair`). It keeps work apart; it is not what makes repair correct.
 *
 * It is plain JSON, so that it can be looked at without the keys. A marker that cannot be read counts as one of a repair
 * of all roots. Whoever adopts a marker replaces it, and only who wrote it last can remove it.
 */
import { randomBytes } from 'node:crypto';
import { createSharedCalls } from '../chunks/shared-calls.ts';
import { FirnError, isFirnError } from '../errors.ts';
import { type BlobStore, type CallOptions, isBlobFailure } from '../storage/blob-store.ts';
import { encodeCheckedJson, parseCheckedJson } from '../storage/json-blob.ts';
import { allRoots } from './root-view.ts';

export const REPAIR_MARKER = 'repair';
const MARKER_FORMAT = 1;
/** Rounds of taking a marker that others take or remove at the same moment. */
const TAKE_TRIES_MAX = 20;

export interface RepairMarker {
  /** RFC 3339. */
  readonly started: string;
  /** For people. */
  readonly owner: string;
  /** The roots under repair; undefined for all. */
  readonly roots: readonly string[] | undefined;
}

export interface HeldMarker extends RepairMarker {
  readonly etag: string;
  /** Of the write, so that a writer whose answer was lost knows its own work again; older markers have none. */
  readonly id: string | undefined;
}

function parseMarker(body: Buffer): Omit<HeldMarker, 'etag'> {
  try {
    const { id, started, owner, roots } = parseCheckedJson(REPAIR_MARKER, body, MARKER_FORMAT);
    const isKnown = Array.isArray(roots) && roots.length > 0 && roots.every((root) => allRoots.includes(root));
    return {
      id: typeof id === 'string' ? id : undefined,
      started: typeof started === 'string' ? started : 'an unknown time',
      owner: typeof owner === 'string' ? owner : 'unknown',
      roots: isKnown ? roots : undefined,
    };
  } catch (error) {
    if (!isFirnError(error, 'FIRN_BLOB_DAMAGED')) throw error;
    return { id: undefined, started: 'an unknown time', owner: 'unknown', roots: undefined };
  }
}

/** The marker of a repair that is unfinished; undefined when there is none. @throws FIRN_REPOSITORY_NEWER. */
export async function findRepairMarker(state: BlobStore, options?: CallOptions): Promise<HeldMarker | undefined> {
  try {
    const { body, properties } = await state.read(REPAIR_MARKER, options);
    return { ...parseMarker(body), etag: properties.etag };
  } catch (error) {
    if (isBlobFailure(error, 'missing')) return undefined;
    throw error;
  }
}

function unfinished({ started, owner }: RepairMarker): FirnError {
  return new FirnError('FIRN_REPAIR_UNFINISHED', { started, owner });
}

/** @throws FIRN_REPAIR_UNFINISHED while a marker stands. */
export async function refuseDuringRepair(state: BlobStore, options?: CallOptions): Promise<void> {
  const marker = await findRepairMarker(state, options);
  if (marker !== undefined) throw unfinished(marker);
}

/** Between two looks at the marker by one session that only reads. */
const LOOK_AGAIN_MS = 1_000;

/** The same for calls that come often: what it found is good for a second, and calls at the same moment share a look. */
export class RepairGate {
  readonly #state: BlobStore;
  readonly #looks = createSharedCalls<void>();
  #clearUntil = Number.NEGATIVE_INFINITY;

  constructor(state: BlobStore) {
    this.#state = state;
  }

  /** @throws FIRN_REPAIR_UNFINISHED while a marker stands. */
  async check(options?: CallOptions): Promise<void> {
    const asked = performance.now();
    // Not once: a look that takes long may be older than a second when it is joined.
    while (asked >= this.#clearUntil) await this.#looks.join('', (signal) => this.#look({ signal }), options?.signal);
  }

  async #look(options: CallOptions): Promise<void> {
    const began = performance.now();
    await refuseDuringRepair(this.#state, options);
    this.#clearUntil = began + LOOK_AGAIN_MS;
  }
}

/**
 * Sets the marker, or takes over the one of a repair that covers no more than this one (then it is not new).
 * @throws FIRN_REPAIR_UNFINISHED when the repair that is unfinished covers more roots than this one would.
 */
export async function takeRepairMarker(
  state: BlobStore,
  marker: RepairMarker,
  options?: CallOptions,
): Promise<HeldMarker & { readonly isNew: boolean }> {
  const id = randomBytes(8).toString('hex');
  const body = encodeCheckedJson({ format: MARKER_FORMAT, id, ...marker, roots: marker.roots ?? null });
  let isNew = false;
  for (let tries = 0; tries < TAKE_TRIES_MAX; tries += 1) {
    const standing = await findRepairMarker(state, options);
    if (standing?.id === id) return { ...standing, isNew };
    if (standing !== undefined && !covers(marker.roots, standing.roots)) throw unfinished(standing);
    isNew = standing === undefined;
    try {
      const { etag } =
        standing === undefined
          ? await state.create(REPAIR_MARKER, body, options)
          : await state.replace(REPAIR_MARKER, body, { ...options, ifMatch: standing.etag });
      return { ...marker, id, etag, isNew };
    } catch (error) {
      if (!isBlobFailure(error, 'exists', 'changed')) throw error;
    }
  }
  throw new FirnError('FIRN_INDEX_CONTENDED', { shard: REPAIR_MARKER, tries: TAKE_TRIES_MAX });
}

/** Removes the marker when it is still this one. @returns false when another repair has taken it over. */
export async function removeRepairMarker(
  state: BlobStore,
  marker: HeldMarker,
  options?: CallOptions,
): Promise<boolean> {
  try {
    await state.delete(REPAIR_MARKER, { ...options, ifMatch: marker.etag });
    return true;
  } catch (error) {
    if (isBlobFailure(error, 'changed')) return false;
    throw error;
  }
}

function covers(wide: readonly string[] | undefined, narrow: readonly string[] | undefined): boolean {
  return wide === undefined || (narrow?.every((root) => wide.includes(root)) ?? false);
}

/**
 * Keeps orchestration instances in a container, one blob per instance: state and history in the body, what a query
 * filters by in the metadata. A state is written whole, under the ETag of the one that it follows, so a crash leaves the
 * old or the new one, and of two hosts that work on the same instance one is told that it was too late. A write whose
 * answer was lost, and whose repetition by the SDK met its own work, is no such case.
 */
import type { ContainerClient } from '@azure/storage-blob';
import { FirnError, problemOf } from '../../errors.ts';
import type { InstanceState, RuntimeStatus } from './instance.ts';

export interface StoredInstance {
  readonly state: InstanceState;
  readonly etag: string;
}

export interface InstanceSummary {
  readonly instanceId: string;
  readonly runtimeStatus: RuntimeStatus;
  readonly createdTime: string;
}

export interface InstanceStore {
  load(instanceId: string): Promise<StoredInstance | undefined>;
  /** Without an ETag the instance must be new. Undefined when the stored instance is not the one expected. */
  save(state: InstanceState, etag: string | undefined): Promise<string | undefined>;
  /** True when it was there. */
  delete(instanceId: string): Promise<boolean>;
  list(): AsyncIterable<InstanceSummary>;
}

export async function openInstanceStore(container: ContainerClient): Promise<InstanceStore> {
  await container.createIfNotExists();
  const blobOf = (instanceId: string) => container.getBlockBlobClient(encodeURIComponent(instanceId));

  /** In one request, so that the ETag is that of the body. */
  async function read(instanceId: string): Promise<{ body: Buffer; etag: string } | undefined> {
    const answer = await orUndefined(404, () => blobOf(instanceId).download());
    if (answer === undefined) return undefined;
    const pieces: Buffer[] = [];
    for await (const piece of answer.readableStreamBody ?? []) pieces.push(Buffer.from(piece));
    return { body: Buffer.concat(pieces), etag: answer.etag ?? '' };
  }

  return {
    async load(instanceId) {
      const stored = await read(instanceId);
      if (stored === undefined) return undefined;
      try {
        const state = JSON.parse(stored.body.toString('utf8')) as InstanceState;
        if (state.version !== 1) throw new Error(`it has version ${String(state.version)}`);
        return { state, etag: stored.etag };
      } catch (error) {
        throw new FirnError('FIRN_LOCAL_STACK_FAILED', {
          problem: `the history of the orchestration ${instanceId} cannot be read: ${problemOf(error)}`,
        });
      }
    },

    async save(state, etag) {
      const body = Buffer.from(JSON.stringify(state));
      const written = await orUndefined([409, 412], () =>
        blobOf(state.instanceId).uploadData(body, {
          conditions: etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag },
          metadata: { status: state.runtimeStatus, created: state.createdTime },
        }),
      );
      if (written !== undefined) return written.etag;
      // A state has the times of its history: another host's is the same only where both did the same step in the same
      // millisecond, and then both begin what follows, as hosts that share a hub may (`engine.ts`).
      const stored = await read(state.instanceId);
      return stored?.body.equals(body) ? stored.etag : undefined;
    },

    async delete(instanceId) {
      return (await blobOf(instanceId).deleteIfExists()).succeeded;
    },

    async *list() {
      for await (const { name, metadata } of container.listBlobsFlat({ includeMetadata: true })) {
        yield {
          instanceId: decodeURIComponent(name),
          runtimeStatus: (metadata?.status ?? 'Pending') as RuntimeStatus,
          createdTime: metadata?.created ?? '',
        };
      }
    },
  };
}

async function orUndefined<T>(status: number | readonly number[], work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if ([status].flat().includes((error as { statusCode?: number }).statusCode ?? 0)) return undefined;
    throw error;
  }
}

/**
 * Keeps orchestration instances in a container, one blob per instance: state and history in the body, what a query
 * filters by in the metadata. A state is written whole, under the ETag of the one that it follows, so a crash leaves the
 * old or the new one, and of two hosts that work on the same instance one is told that it was too late.
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

  return {
    async load(instanceId) {
      const blob = blobOf(instanceId);
      // Read in one request, so that the ETag is that of the body.
      const answer = await orUndefined(404, () => blob.download());
      if (answer === undefined) return undefined;
      const pieces: Buffer[] = [];
      for await (const piece of answer.readableStreamBody ?? []) pieces.push(Buffer.from(piece));
      try {
        const state = JSON.parse(Buffer.concat(pieces).toString('utf8')) as InstanceState;
        if (state.version !== 1) throw new Error(`it has version ${String(state.version)}`);
        return { state, etag: answer.etag ?? '' };
      } catch (error) {
        throw new FirnError('FIRN_LOCAL_STACK_FAILED', {
          problem: `the history of the orchestration ${instanceId} cannot be read: ${problemOf(error)}`,
        });
      }
    },

    async save(state, etag) {
      const written = await orUndefined([409, 412], () =>
        blobOf(state.instanceId).uploadData(Buffer.from(JSON.stringify(state)), {
          conditions: etag === undefined ? { ifNoneMatch: '*' } : { ifMatch: etag },
          metadata: { status: state.runtimeStatus, created: state.createdTime },
        }),
      );
      return written?.etag;
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

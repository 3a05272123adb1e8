/**
 * Lets the retry policy of the Azure SDK repeat what was refused with 429 as it repeats what was refused with 503.
 *
 * The storage service throttles with 503 («ServerBusy»), which the SDK repeats. What stands in front of it (a gateway, a
 * proxy) throttles with 429, which the SDK does not repeat and has no option for. Retries of our own around the SDK's
 * would multiply its tries, so the answer is marked instead, with a header that its policy repeats on whatever the status:
 * tries, waits and cancellation stay those of `retryOptions`, and the error that comes out in the end still says 429. Like
 * that policy this does not look at `Retry-After`.
 *
 * A service client and all clients made from it share one pipeline. The SDK's `additionalPolicies` would be added to it
 * again for each of them, that is for every blob; so the policy is added once, here. Request bodies are sent again as they
 * are, so they must not be streams; for every request that the SDK repeats that holds anyway.
 */
import type { BlobServiceClient } from '@azure/storage-blob';
import type { QueueServiceClient } from '@azure/storage-queue';

/** To be called once for the clients that all others are made from. */
export function repeatThrottled(blobs: BlobServiceClient, queues: QueueServiceClient): void {
  // biome-ignore lint/complexity/useLiteralKeys: it is a protected member, and the types still see when an update moves it
  const pipelines = [blobs['storageClientContext'].pipeline, queues['storageClientContext'].queuesClient.pipeline];
  for (const pipeline of pipelines) {
    pipeline.addPolicy(
      {
        name: 'firnThrottlingPolicy',
        async sendRequest(request, next) {
          const response = await next(request);
          if (response.status === 429) response.headers.set('x-ms-copy-source-error-code', 'ServerBusy');
          return response;
        },
      },
      { afterPhase: 'Retry' },
    );
  }
}

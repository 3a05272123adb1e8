/** Starting the orchestration that publishes a source: one at a time, by an instance id that is the source's own. */
import type { InvocationContext } from '@azure/functions';
import * as df from 'durable-functions';

export const PUBLISH_ORCHESTRATOR = 'publishSnapshot';

const runningStates: readonly df.OrchestrationRuntimeStatus[] = [
  df.OrchestrationRuntimeStatus.Pending,
  df.OrchestrationRuntimeStatus.Running,
  df.OrchestrationRuntimeStatus.ContinuedAsNew,
  df.OrchestrationRuntimeStatus.Suspended,
];

export function publishInstanceId(source: string): string {
  return `publish-${source}`;
}

/** @returns false when a publish of the source is running already. */
export async function startPublish(context: InvocationContext, source: string): Promise<boolean> {
  const client = df.getClient(context);
  const instanceId = publishInstanceId(source);
  try {
    await client.startNew(PUBLISH_ORCHESTRATOR, { instanceId, input: source });
    return true;
  } catch (error) {
    // The start of an instance that is running is refused.
    if (await isRunning(client, instanceId)) return false;
    throw error;
  }
}

async function isRunning(client: df.DurableClient, instanceId: string): Promise<boolean> {
  try {
    return runningStates.includes((await client.getStatus(instanceId)).runtimeStatus);
  } catch {
    // The library rejects when there is no such instance; why it could not be started is what counts then.
    return false;
  }
}

/** Starting orchestrations of which one runs at a time; the publish of a source by an instance id that is the source's own. */
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
  return await startSingle(context, PUBLISH_ORCHESTRATOR, publishInstanceId(source), source);
}

/** Starts an orchestration of which one runs at a time. @returns false when that one is running already. */
export async function startSingle(
  context: InvocationContext,
  orchestrator: string,
  instanceId: string,
  input: unknown,
): Promise<boolean> {
  const client = df.getClient(context);
  try {
    await client.startNew(orchestrator, { instanceId, input });
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

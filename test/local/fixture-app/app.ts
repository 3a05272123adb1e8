/** An app of the real libraries, as a user would write it; each function leaves an effect that a test looks for. */
import { createRequire } from 'node:module';
import { app, output, type StorageBlobFunctionOptions } from '@azure/functions';
import type { ModelBindingData } from '@azure/functions-extensions-base';
import * as df from 'durable-functions';
import { count, leave, storage, until } from './effects.ts';

// The library requires the CommonJS build; the ESM build would bring a resolver of its own, which nobody asks.
const { ResourceFactoryResolver } = createRequire(import.meta.url)(
  '@azure/functions-extensions-base',
) as typeof import('@azure/functions-extensions-base');

const connection = 'FIXTURE_STORAGE';

interface Job {
  readonly id: string;
  readonly fail?: boolean;
  readonly gate?: string;
}

app.hook.preInvocation((context) => {
  if (context.invocationContext.functionName === 'hooked') context.inputs = ['changed by a hook'];
});
app.hook.postInvocation(async (context) => {
  if (context.invocationContext.functionName === 'hooked') await leave('hook', 'post', context.inputs[0]);
});

app.storageQueue('jobs', {
  queueName: '%JOBS_QUEUE%',
  connection,
  handler: async (message, context) => {
    const job = message as Job;
    await leave('job', job.id, { metadata: context.triggerMetadata, invocationId: context.invocationId });
    if (job.gate !== undefined) await until(job.gate);
    if (job.fail) throw new Error(`the job ${job.id} was asked to fail`);
    await leave('job-done', job.id);
  },
});

app.storageQueue('poisonedJobs', {
  queueName: '%JOBS_QUEUE%-poison',
  connection,
  handler: async (message) => leave('poison', (message as Job).id),
});

const copies = output.storageQueue({ queueName: '%COPIES_QUEUE%', connection });
app.storageQueue('copied', {
  queueName: '%COPIES_QUEUE%',
  connection,
  handler: async (message) => leave('copied', String((message as { id: string }).id), message),
});
app.http('copy', {
  route: 'copy/{id}',
  methods: ['POST'],
  extraOutputs: [copies],
  handler: async (request, context) => {
    const { id } = request.params;
    context.extraOutputs.set(copies, [{ id: `${id}-a` }, { id: `${id}-b`, text: await request.text() }]);
    return { status: 201, jsonBody: { id, tag: request.query.get('tag') }, headers: { 'x-seen': request.method } };
  },
});
app.storageQueue('hooked', { queueName: '%HOOKED_QUEUE%', connection, handler: async () => undefined });

app.http('files', { route: 'files/{*rest}', handler: async ({ params }) => ({ body: params.rest ?? '' }) });
app.http('nothing', { methods: ['GET'], handler: async () => undefined as never });
app.http('broken', { handler: () => Promise.reject(new Error('broken')) });

interface BlobReference {
  readonly Connection: string;
  readonly ContainerName: string;
  readonly BlobName: string;
}
ResourceFactoryResolver.getInstance().registerResourceFactory('AzureStorageBlobs', (data) => {
  const [one] = [data].flat() as ModelBindingData[];
  return JSON.parse(String(one?.content)) as BlobReference;
});
app.storageBlob('arrived', {
  path: '%INBOX%/{source}/{name}',
  connection,
  source: 'EventGrid',
  sdkBinding: true,
  handler: async (blob, context) => {
    const reference = blob as BlobReference;
    const { contentLength } = await storage()
      .getContainerClient(reference.ContainerName)
      .getBlobClient(reference.BlobName)
      .getProperties();
    await leave('arrived', reference.BlobName.replaceAll('/', '_'), {
      reference,
      contentLength,
      maxRssKiB: process.resourceUsage().maxRSS,
      metadata: context.triggerMetadata,
    });
    if (reference.BlobName.includes('bad')) throw new Error('a bad blob');
  },
} satisfies StorageBlobFunctionOptions);
app.storageBlob('content', {
  path: '%SMALL%',
  connection,
  handler: async (blob, context) => leave('content', String(context.triggerMetadata?.blobTrigger), String(blob)),
});
// The name of this queue is fixed, so only one app of a storage account may listen to it.
if (process.env.WATCH_POISON_BLOBS) {
  app.storageQueue('poisonedBlobs', {
    queueName: 'webjobs-blobtrigger-poison',
    connection,
    handler: async (message) => {
      const { BlobName } = message as BlobReference;
      await leave('poison-blob', BlobName.replaceAll('/', '_'), message);
    },
  });
}

app.timer('rare', { schedule: '0 0 0 29 2 *', handler: async (timer) => leave('timer', 'rare', timer) });
app.timer('atStart', {
  schedule: '0 0 0 1 1 *',
  runOnStartup: true,
  handler: async (timer) => leave('timer', 'atStart', timer),
});

df.app.activity('double', {
  handler: async ({ run, n, gate }: { run: string; n: number; gate?: string }) => {
    if (gate !== undefined && n >= 10) await until(gate);
    await leave('double', `${run}-${n}`);
    return n * 2;
  },
});
df.app.activity('flaky', {
  handler: async (run: string) => {
    await leave('flaky', run);
    if ((await count('flaky', run)) < 2) throw new Error('not yet');
    return `after ${await count('flaky', run)}`;
  },
});
df.app.activity('hopeless', {
  handler: async (run: string) => {
    await leave('hopeless', run);
    throw new Error('never');
  },
});
df.app.activity('echo', { handler: (value: unknown) => value });

df.app.orchestration('fanOut', function* (context) {
  const { run, gate } = context.df.getInput() as { run: string; gate?: string };
  const numbers = Array.from({ length: 20 }, (_, n) => n);
  const results = (yield context.df.Task.all(
    numbers.map((n) => context.df.callActivity('double', gate === undefined ? { run, n } : { run, n, gate })),
  )) as number[];
  return results.reduce((sum, n) => sum + n, 0);
});

df.app.orchestration('retries', function* (context) {
  const run = context.df.getInput() as string;
  const flaky = (yield context.df.callActivityWithRetry('flaky', new df.RetryOptions(50, 3), run)) as string;
  let failure = 'none';
  try {
    yield context.df.callActivityWithRetry('hopeless', new df.RetryOptions(10, 2), run);
  } catch (error) {
    failure = (error as Error).message;
  }
  return { flaky, failure };
});

df.app.orchestration('waiting', function* (context) {
  const deadline = new Date(context.df.currentUtcDateTime.getTime() + 150);
  yield context.df.createTimer(deadline);
  context.df.setCustomStatus('waiting for approval');
  const timeout = context.df.createTimer(new Date(context.df.currentUtcDateTime.getTime() + 3_600_000));
  const approval = context.df.waitForExternalEvent('approval');
  const winner = yield context.df.Task.any([approval, timeout]);
  if (winner !== approval) return 'late';
  timeout.cancel();
  const echoed = yield context.df.callActivity('echo', approval.result);
  return { approval: echoed, waitedMs: context.df.currentUtcDateTime.getTime() - deadline.getTime() >= 0 };
});

df.app.orchestration('parent', function* (context) {
  const run = context.df.getInput() as string;
  const sum = yield context.df.callSubOrchestrator('fanOut', { run });
  let failure = 'none';
  try {
    yield context.df.callSubOrchestrator('fails', run);
  } catch (error) {
    failure = (error as Error).message;
  }
  return { sum, failure };
});
// biome-ignore lint/correctness/useYield: an orchestrator is a generator even where it waits for nothing
df.app.orchestration('fails', function* () {
  throw new Error('on purpose');
});
df.app.orchestration('rounds', function* (context) {
  const round = context.df.getInput() as number;
  const step = (yield context.df.waitForExternalEvent('step')) as number;
  if (round + step < 3) context.df.continueAsNew(round + step);
  return round + step;
});

app.http('start', {
  route: 'start/{name}/{id}',
  extraInputs: [df.input.durableClient()],
  handler: async (request, context) => {
    const client = df.getClient(context);
    const { name = '', id = '' } = request.params;
    try {
      const instanceId = await client.startNew(name, { instanceId: id, input: await request.json() });
      return client.createCheckStatusResponse(request, instanceId);
    } catch (error) {
      return { status: 409, body: (error as Error).message };
    }
  },
});
app.http('manage', {
  route: 'manage/{what}/{id}',
  extraInputs: [df.input.durableClient()],
  handler: async (request, context) => {
    const client = df.getClient(context);
    const { what = '', id = '' } = request.params;
    const status = async () => ({ jsonBody: await client.getStatus(id, { showInput: true, showHistory: true }) });
    try {
      switch (what) {
        case 'status':
          return await status();
        case 'raise':
          await client.raiseEvent(id, request.query.get('event') ?? '', await request.json());
          return { status: 202 };
        case 'terminate':
          await client.terminate(id, 'enough');
          return { status: 202 };
        case 'suspend':
          await client.suspend(id, 'hold');
          return { status: 202 };
        case 'resume':
          await client.resume(id, 'go');
          return { status: 202 };
        case 'purge':
          return { jsonBody: await client.purgeInstanceHistory(id) };
        default:
          return {
            jsonBody: await client.getStatusBy({
              runtimeStatus: [df.OrchestrationRuntimeStatus.Completed],
            }),
          };
      }
    } catch (error) {
      return { status: 404, body: (error as Error).message };
    }
  },
});

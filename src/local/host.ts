/**
 * The local Functions host: runs any app of the Node programming model v4 on its own machine, without Azure and without
 * Core Tools. It knows nothing of Firn's engine.
 *
 * The app is imported and registers its functions through `@azure/functions` (and `durable-functions`); every handler,
 * binding and conversion is run by those libraries. Storage is whatever the app settings name, Azurite as a rule.
 * `docs/local-stack.md` lists what is emulated and what is not.
 *
 * Registration is global to a process, so a process hosts one app, once. `host-client.ts` runs it in a child process.
 */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { FirnError, problemOf } from '../errors.ts';
import { adminApi } from './admin-api.ts';
import { createAppSettings, HOST_CONNECTION } from './app-settings.ts';
import { startBlobTrigger } from './blob-trigger.ts';
import { type HookContext, installCoreApi } from './core-api.ts';
import { type DurableEngine, startDurableEngine } from './durable/engine.ts';
import { durableClientData, durableHttpApi } from './durable/http-api.ts';
import { openInstanceStore } from './durable/store.ts';
import { type HostedFunction, hostedFunctions } from './functions.ts';
import { within } from './gate.ts';
import { readHostJson } from './host-json.ts';
import { createRoutes } from './http-routes.ts';
import { startHttpServer } from './http-server.ts';
import { httpTrigger } from './http-trigger.ts';
import { createInvoker, failureLine, runHooks } from './invoke.ts';
import type { Listener, Run } from './listener.ts';
import { type HostLogSink, hostLog } from './log.ts';
import { createQueueWatch, createQueueWriter, deliverToQueue } from './queue-messages.ts';
import { startQueueTrigger } from './queue-trigger.ts';
import { startTimerTrigger } from './timer-trigger.ts';

export const HTTP_PORT = 7071;
/** Receipts and timers are kept under it; two apps in one storage account need two. A setting of the real host. */
const HOST_ID_SETTING = 'AzureFunctionsWebHost__hostid';
const HOST_CONTAINER = 'azure-webjobs-hosts';
const DRAIN_MS_MAX = 30_000;
const LEASE_SECONDS = 30;
const BLOB_RETRY_MS = 500;

export interface HostOptions {
  /** The folder of the app; `host.json` lies there. */
  readonly appRoot: string;
  /** The module that registers the functions when it is imported: a path, absolute or relative to `appRoot`. */
  readonly entry: string;
  /** Another `host.json`: a path, absolute or relative to `appRoot`. */
  readonly hostJson?: string | undefined;
  /** App settings. They are put into the environment of this process, where the app reads them. */
  readonly settings: Readonly<Record<string, string>>;
  /** 7071 where undefined; 0 takes any free port. */
  readonly httpPort?: number | undefined;
  readonly log: HostLogSink;
  /** Stops the host. */
  readonly abortSignal?: AbortSignal | undefined;
  /** For how long a fetched queue message is hidden at a time; so soon it shows again when the host is killed. */
  readonly messageLeaseSeconds?: number | undefined;
  /** Before the second delivery of a blob whose function failed; it doubles with each one. */
  readonly blobRetryMs?: number | undefined;
  /** How long `stop` waits for running invocations. */
  readonly drainMsMax?: number | undefined;
}

export interface FunctionsHost {
  readonly url: string;
  /** Names of the functions, in the order of their registration. */
  readonly functions: readonly string[];
  /** Nothing runs and nothing that was fetched waits. What lies in storage and was not seen yet does not count. */
  idle(): boolean;
  /**
   * Takes no new work, waits for what runs (up to `drainMsMax`), gives the rest back to storage, and closes the
   * endpoint. May be called again.
   */
  stop(): Promise<void>;
}

/**
 * Fails with FIRN_PORT_IN_USE, FIRN_FUNCTION_INVALID, FIRN_SETTING_MISSING, FIRN_SETTING_INVALID, or
 * FIRN_LOCAL_STACK_FAILED; then nothing is left running.
 */
export async function startFunctionsHost(options: HostOptions): Promise<FunctionsHost> {
  const log = hostLog(options.log);
  const hostSettings = await readHostJson(
    path.resolve(options.appRoot, options.hostJson ?? 'host.json'),
    options.settings,
  );
  const registrations = installCoreApi((level, category, message) => {
    if (category !== 'customMetric') {
      options.log({ time: new Date().toISOString(), level, category, message });
    }
  });
  const server = await startHttpServer(options.httpPort ?? HTTP_PORT, (error) =>
    log('error', `A request failed: ${problemOf(error)}`),
  );
  const listeners: Listener[] = [];
  try {
    const appSettings = { ...options.settings };
    Object.assign(process.env, appSettings);
    // The durable library rewrites every address to port 7071 unless this is set.
    process.env.WEBSITE_HOSTNAME = new URL(server.url).host;
    const settings = createAppSettings(process.env);
    const hostId = settings.get(HOST_ID_SETTING) ?? 'local';

    await importApp(path.resolve(options.appRoot, options.entry));
    const functions = hostedFunctions(registrations.functions.values(), settings);
    if (functions.length === 0) {
      throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: `${options.entry} registers no functions` });
    }
    const routes = createRoutes(functions, hostSettings.http.routePrefix);
    const capabilities = await registrations.programmingModel()?.getCapabilities?.({});
    if (capabilities?.HttpUri !== undefined) {
      throw new FirnError('FIRN_LOCAL_STACK_FAILED', { problem: 'HTTP streams (enableHttpStream) are not supported' });
    }

    const appStart: HookContext = { hookData: {}, functionAppDirectory: options.appRoot };
    await runHooks(registrations, 'appStart', appStart);

    const watch = createQueueWatch();
    const writer = createQueueWriter(watch);
    const { hubName } = hostSettings.durableTask;
    const invoker = createInvoker({
      registrations,
      log: options.log,
      timeoutMs: hostSettings.functionTimeoutMs,
      extraInput: () => durableClientData(server.url, hubName),
      deliver: (target, binding, data) =>
        deliverToQueue(settings, writer, hostSettings.queues.messageEncoding, target, binding, data),
    });

    const hostContainer = (await settings.blobService(HOST_CONNECTION)).getContainerClient(HOST_CONTAINER);
    await connected(() => hostContainer.createIfNotExists());
    let engine: DurableEngine | undefined;
    if (functions.some(({ kind }) => kind === 'orchestrationtrigger')) {
      const historyContainer = `${hubName.toLowerCase()}-history`;
      engine = await startDurableEngine({
        functions,
        store: await openInstanceStore(
          (await settings.blobService(HOST_CONNECTION)).getContainerClient(historyContainer),
        ),
        invoker,
        log,
        ...hostSettings.durableTask,
      });
      server.use(durableHttpApi(engine, server.url, hubName));
    }

    const byHand = new Map<HostedFunction, (input: string) => Promise<unknown>>();
    const manual = new Set<Promise<void>>();
    server.use(
      adminApi({
        hostId,
        functions,
        runByHand(target, input) {
          const run = byHand.get(target);
          if (run === undefined) return undefined;
          const running = run(input).then(
            () => undefined,
            (error: unknown) => log('error', `The run by hand failed: ${failureLine(error)}`, target.name),
          );
          manual.add(running);
          return running.finally(() => manual.delete(running));
        },
      }),
    );
    server.use(httpTrigger(routes, invoker, log));

    for (const target of functions) {
      const run: Run = (input, triggerMetadata) => invoker.invoke(target, { input, triggerMetadata });
      const common = { target, run, log, settings, writer, watch, hostContainer, hostId };
      switch (target.kind) {
        case 'queuetrigger': {
          const leaseSeconds = options.messageLeaseSeconds ?? LEASE_SECONDS;
          listeners.push(await startQueueTrigger({ ...common, queues: hostSettings.queues, leaseSeconds }));
          byHand.set(target, (input) => run({ string: input }, { QueueTrigger: { string: input } }));
          break;
        }
        case 'blobtrigger': {
          const retryMs = options.blobRetryMs ?? BLOB_RETRY_MS;
          const listener = await startBlobTrigger({ ...common, blobs: hostSettings.blobs, retryMs });
          listeners.push(listener);
          byHand.set(target, (input) => listener.runFor(input.slice(input.indexOf('/') + 1)));
          break;
        }
        case 'timertrigger': {
          const listener = await startTimerTrigger(common);
          listeners.push(listener);
          byHand.set(target, () => listener.runNow());
          break;
        }
        default:
      }
    }
    log('information', `${functions.length} functions are hosted at ${server.url}`);

    let stopped: Promise<void> | undefined;
    const stop = (): Promise<void> => {
      stopped ??= stopAll();
      return stopped;
    };
    async function stopAll(): Promise<void> {
      // The endpoint stays open until the listeners have stopped: a running handler may still call it.
      const drained = await within(
        options.drainMsMax ?? DRAIN_MS_MAX,
        (async () => {
          await Promise.all([...listeners.map((listener) => listener.stop()), ...manual]);
          await engine?.stop();
          await server.stop();
        })(),
      );
      if (!drained) {
        log('warning', `${invoker.running} invocations did not end in time; what they worked on is given back`);
        await Promise.all(listeners.map((listener) => listener.abandon()));
        server.abandon();
      }
      await runHooks(registrations, 'appTerminate', { hookData: {} });
    }
    options.abortSignal?.addEventListener('abort', () => void stop(), { once: true });
    if (options.abortSignal?.aborted) await stop();

    return {
      url: server.url,
      functions: functions.map(({ name }) => name),
      idle: () =>
        invoker.running === 0 &&
        manual.size === 0 &&
        (engine?.pending ?? 0) === 0 &&
        listeners.every(({ pending }) => pending === 0),
      stop,
    };
  } catch (error) {
    await Promise.allSettled(listeners.map((listener) => listener.stop()));
    server.abandon();
    await server.stop();
    throw error;
  }
}

async function importApp(entry: string): Promise<void> {
  try {
    await import(pathToFileURL(entry).href);
  } catch (error) {
    if (error instanceof FirnError) throw error;
    throw new FirnError(
      'FIRN_LOCAL_STACK_FAILED',
      { problem: `the app ${entry} cannot be loaded: ${problemOf(error)}` },
      { cause: error },
    );
  }
}

async function connected<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new FirnError(
      'FIRN_LOCAL_STACK_FAILED',
      { problem: `the storage that ${HOST_CONNECTION} names cannot be used: ${problemOf(error)}` },
      { cause: error },
    );
  }
}

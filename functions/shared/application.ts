/** What the functions of one process share: its settings, its connection and its repository, opened once. */
import { app, type InvocationContext } from '@azure/functions';
import type { BatchParts } from '../../src/archive/batches.ts';
import type { ErrorCode, FirnError } from '../../src/errors.ts';
import { connectFromEnvironment } from '../../src/open-from-environment.ts';
import {
  type Containers,
  type Inbox,
  openInbox,
  openOrCreateRepository,
  openRepository,
  type PreparedRepository,
  type Repository,
} from '../../src/repository.ts';
import { readSettings, repositoryNames } from '../../src/settings.ts';
import { logFailure } from './events.ts';

const { settings, warnings } = readSettings(process.env);

/** Read once when the app is loaded: names in bindings and schedules come from here. */
export const appSettings = settings;
export const appNames = repositoryNames(settings.repository);
/** The app setting that bindings name as their connection. */
export const CONNECTION = 'FIRN_STORAGE';

/** Warnings of what no later run makes good: there is an alert for them. */
const needsPerson: ReadonlySet<ErrorCode> = new Set(['FIRN_JOURNAL_DAMAGED', 'FIRN_UPLOAD_KEPT'] as const);

let warned = false;
let containers: Containers | undefined;
let inbox: Inbox | undefined;
let repository: Promise<Repository> | undefined;

/** Connected at the first use: loading the app must not depend on the storage. */
function containersOf(): Containers {
  containers ??= connectFromEnvironment(process.env).containers;
  return containers;
}

function warn(context: InvocationContext) {
  if (!warned) for (const warning of warnings) context.warn(warning);
  warned = true;
  return (error: FirnError) => {
    if (needsPerson.has(error.code)) logFailure(context, error);
    else context.warn(`${error.code}: ${error.message}`);
  };
}

/** The part of the repository that needs no keys. */
export function inboxOf(context: InvocationContext): BatchParts {
  inbox ??= openInbox(containersOf(), settings);
  return { ...inbox, onWarning: warn(context) };
}

/** The repository; a failure to open it is not remembered. */
export async function repositoryOf(context: InvocationContext): Promise<Repository> {
  repository ??= openRepository(containersOf(), settings).catch((error) => {
    repository = undefined;
    throw error;
  });
  return { ...(await repository), onWarning: warn(context) };
}

/** What the journals took is durable before the process goes; the host waits for this within its time to stop. */
app.hook.appTerminate(async () => {
  await inbox?.[Symbol.asyncDispose]();
  await (await repository?.catch(() => undefined))?.[Symbol.asyncDispose]();
});

/** Opens the repository, or creates it where there is none. */
export async function prepareRepository(context: InvocationContext): Promise<PreparedRepository> {
  warn(context);
  return await openOrCreateRepository(containersOf(), settings);
}

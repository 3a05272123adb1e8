/**
 * The command line, apart from the process it runs in: words in, an exit code out. Nothing here reads the real
 * environment, writes to the real streams or ends the process, so a test runs it as it is.
 */
import path from 'node:path';
import type { FirnError } from '../errors.ts';
import { connectFromEnvironment } from '../open-from-environment.ts';
import { openRepository } from '../repository.ts';
import { type Environment, readSettings, settingText } from '../settings.ts';
import { type CliIo, type CommandContext, exitCodes, type ParsedOptions } from './command.ts';
import { commands } from './commands.ts';
import { confirm } from './confirm.ts';
import { exitCodeOf, failureOf } from './failure.ts';
import { helpOf, helpOfAll } from './help.ts';
import { Output, OutputClosed } from './output.ts';
import { type Invocation, parseLine } from './parse.ts';
import { readPassphrase } from './passphrase-file.ts';
import { firnVersion } from './version.ts';

/** Runs one command line. It never throws; what goes wrong is told on stderr. */
export async function run(argv: readonly string[], io: CliIo): Promise<number> {
  const { json, invocation } = parseLine(argv, commands);
  const debug = settingText(io.env, 'FIRN_DEBUG') === '1';
  let output = new Output(io.stdout, io.stderr, { json, quiet: false, debug });
  try {
    const invoked = invocation();
    if (invoked.kind === 'command') {
      const { options } = invoked;
      output = new Output(io.stdout, io.stderr, {
        json,
        quiet: options.flag('quiet'),
        debug,
      });
    }
    const code = await invoke(invoked, io, output);
    await output.flush();
    return code;
  } catch (error) {
    if (error instanceof OutputClosed) return exitCodes.done;
    await output.flush().catch(() => undefined);
    const failure = failureOf(error, io.signal?.aborted ?? false);
    output.failure(failure);
    return exitCodeOf(failure);
  } finally {
    output.close();
  }
}

async function invoke(invoked: Invocation, io: CliIo, output: Output): Promise<number> {
  if (invoked.kind === 'version') {
    await output.result({ version: firnVersion }, () => firnVersion);
    return exitCodes.done;
  }
  if (invoked.kind === 'help') {
    const help = invoked.command ? helpOf(invoked.command) : helpOfAll(commands);
    await output.result({ help }, () => help);
    return exitCodes.done;
  }
  const { command, args, options } = invoked;
  return await command.run(contextOf(args, options, io, output));
}

function contextOf(args: readonly string[], options: ParsedOptions, io: CliIo, output: Output): CommandContext {
  const signal = io.signal ?? new AbortController().signal;
  const now = io.now ?? (() => new Date());
  const onWarning = (error: FirnError) => output.problem(error);
  const connectOnce = async () => {
    const environment = await environmentWith(options, io);
    const { settings, warnings, containers } = io.containers
      ? { ...readSettings(environment), containers: io.containers }
      : connectFromEnvironment(environment);
    for (const warning of warnings) output.warning(warning, { code: 'FIRN_SETTING_INVALID' });
    return { settings, containers };
  };
  let connecting: ReturnType<typeof connectOnce> | undefined;
  const connect = () => {
    connecting ??= connectOnce();
    return connecting;
  };
  const open = async () => {
    const { settings, containers } = await connect();
    return await openRepository(containers, settings, { now, onWarning, signal });
  };
  const ask = async (question: string) => (output.json ? undefined : await confirm(io, question, signal));
  return { args, options, output, cwd: io.cwd, signal, now, connect, open, confirm: ask, onWarning };
}

/** The environment with the common options over it. */
async function environmentWith(options: ParsedOptions, io: CliIo): Promise<Environment> {
  const repository = options.text('repository');
  const file = options.text('passphrase-file');
  return {
    ...io.env,
    ...(repository !== undefined && { FIRN_REPOSITORY: repository }),
    ...(file !== undefined && { FIRN_PASSPHRASE: await readPassphrase('passphrase-file', path.resolve(io.cwd, file)) }),
  };
}

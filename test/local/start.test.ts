/** `npm start` as a user runs it: a process of its own, its words and commands, and every way in which it ends. */
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { describeTree, makeTree, temporaryFolder } from '../kit/local-tree.ts';
import { until } from '../kit/until.ts';
import { clone, descendantRunning, descendants, isAlive, type Program, start } from './child-processes.ts';

const anyPorts = { FIRN_LOCAL_BLOB_PORT: '0', FIRN_LOCAL_QUEUE_PORT: '0', FIRN_HTTP_PORT: '0' };
const RUNNING = 'bring them back';

function startStack(folder: string, env: Record<string, string> = {}, nodeOptions: readonly string[] = []): Program {
  const args = [...nodeOptions, 'src/local/start.ts'];
  return start(process.execPath, args, { env: { ...anyPorts, FIRN_LOCAL_FOLDER: folder, ...env } });
}

async function running(folder: string, env?: Record<string, string>): Promise<Program> {
  const program = startStack(folder, env);
  await program.says(RUNNING);
  return program;
}

/** Waits until it has ended. @returns the processes that were seen below it. */
async function endedWithAll(program: Program): Promise<number[]> {
  const below = new Set<number>();
  await until('it ended', () => {
    for (const pid of descendants(program.pid)) below.add(pid);
    return isAlive(program.pid) ? undefined : true;
  });
  return [...below];
}

async function goneAll(pids: readonly number[]): Promise<void> {
  await until('every process has ended', () => (pids.some(isAlive) ? undefined : true));
}

/** A command of the welcome text, as it is printed, run in a shell after the settings that are printed. */
async function runPrinted(program: Program, command: string, holes: Record<string, string> = {}): Promise<string> {
  const lines = program.stdout().split('\n');
  const settings = lines.filter((line) => line.startsWith('  export '));
  const printed = lines.find((line) => line.startsWith(`  ${command}`));
  expect(printed, `${command} is printed`).toBeDefined();
  const filled = Object.entries(holes).reduce(
    (line, [hole, value]) => line.replace(`<${hole}>`, `'${value}'`),
    printed!,
  );
  const shell = start('sh', ['-c', `set -e\n${settings.join('\n')}\n${filled}`]);
  expect(await shell.ended, shell.stderr()).toBe(0);
  return shell.stdout();
}

/**
 * Asks for a publish, as printed, until the snapshot has so many files, and this among its entries: uploads come one by one.
 * @returns the list of its entries.
 */
async function published(program: Program, files: number, entry: RegExp): Promise<string> {
  return await until(`a snapshot of ${files} files and ${entry} is listed`, async () => {
    await runPrinted(program, 'curl');
    const snapshots = await runPrinted(program, 'npx firn snapshots');
    if (!new RegExp(`\\bphotos +${files} `).test(snapshots)) return undefined;
    const entries = await runPrinted(program, 'npx firn ls');
    return entry.test(entries) ? entries : undefined;
  });
}

it('prints commands that work as they are; stops at Ctrl-C with all its processes; and goes on where it was', async () => {
  const data = path.join(await temporaryFolder(), "a user's folder");
  const photos = await temporaryFolder();
  await makeTree(photos, {
    'ünï 雪.txt': { type: 'file', content: 'one', mode: 0o640, mtime: 1_100_000_000 },
    folder: {
      type: 'folder',
      mode: 0o750,
      mtime: 1_000_000_000,
      entries: { b: { type: 'file', content: 'two', mtime: 1_200_000_000 } },
    },
  });
  const first = await running(data);
  expect(first.stdout()).toContain('a new encrypted repository');
  const below = descendants(first.pid);
  expect(below).toHaveLength(2);
  await runPrinted(first, 'npx firn upload', { folder: photos });
  first.signal('SIGINT');
  expect(await first.ended).toBe(0);
  expect(first.stderr()).toBe('');
  await goneAll(below);
  const passphrase = await readFile(path.join(data, 'passphrase'), 'utf8');
  expect((await stat(path.join(data, 'passphrase'))).mode & 0o777).toBe(0o600);

  const second = await running(data);
  expect(second.stdout()).toContain('the encrypted repository');
  expect(await readFile(path.join(data, 'passphrase'), 'utf8')).toBe(passphrase);
  expect(await published(second, 2, /^drwxr-x--- .* folder\/$/m)).toContain('ünï 雪.txt');
  const target = await temporaryFolder();
  await runPrinted(second, 'npx firn restore', { 'empty folder': target });
  expect(await describeTree(target)).toEqual(await describeTree(photos));
  expect(await readFile(path.join(data, 'host.log'), 'utf8')).toContain('host');
  second.signal('SIGTERM');
  expect(await second.ended).toBe(0);
});

it('stops in order when npm and the terminal both deliver Ctrl-C', async () => {
  const env = { ...anyPorts, FIRN_LOCAL_FOLDER: await temporaryFolder() };
  const npm = start('npm', ['start'], { env, group: true });
  await npm.says(RUNNING);
  const below = descendants(npm.pid);
  process.kill(-npm.pid, 'SIGINT');
  // The shell in which npm runs scripts may end by the signal itself, and npm with it.
  expect([0, 'SIGINT']).toContain(await npm.ended);
  expect(npm.stdout()).toContain('Stopped.');
  await goneAll(below);
});

it('stops in order when npm alone is ended', async () => {
  const env = { ...anyPorts, FIRN_LOCAL_FOLDER: await temporaryFolder() };
  const npm = start('npm', ['start'], { env });
  await npm.says(RUNNING);
  const below = descendants(npm.pid);
  npm.signal('SIGTERM');
  await npm.ended;
  expect(npm.stdout()).toContain('Stopped.');
  await goneAll(below);
});

it.each(['azurite-process', 'host-process'])('stops when it is asked to while %s is starting', async (starting) => {
  const program = startStack(await temporaryFolder(), {}, ['--import', interruptedAt(starting)]);
  const below = await endedWithAll(program);
  expect(await program.ended).toBe(0);
  expect(program.stdout()).toContain('Starting');
  expect(program.stdout()).not.toContain(RUNNING);
  expect(below.filter(isAlive)).toEqual([]);
});

/** A module that delivers Ctrl-C to the program at the moment when it starts that process. */
function interruptedAt(starting: string): string {
  const code = `
    import processes from 'node:child_process';
    import { syncBuiltinESMExports } from 'node:module';
    const { fork } = processes;
    processes.fork = (file, ...rest) => {
      const child = fork(file, ...rest);
      if (file.includes('${starting}')) process.emit('SIGINT');
      return child;
    };
    syncBuiltinESMExports();`;
  return `data:text/javascript,${encodeURIComponent(code)}`;
}

it('does not wait for functions that hang when it is asked a second time', async () => {
  const program = await running(await temporaryFolder());
  const below = descendants(program.pid);
  process.kill(descendantRunning(program.pid, 'host-process'), 'SIGSTOP');
  program.signal('SIGINT');
  await program.says('Stopping');
  await until('the second request is heard', () => {
    program.signal('SIGINT');
    return program.stdout().includes('without waiting') || !isAlive(program.pid) ? true : undefined;
  });
  // To a shell both are 130; a request that comes while the process is ending may still end it by the signal.
  expect([130, 'SIGINT']).toContain(await program.ended);
  await goneAll(below);
});

it('leaves no process when it is killed, and the next start has the same repository', async () => {
  const folder = await temporaryFolder();
  const first = await running(folder);
  const below = descendants(first.pid);
  first.signal('SIGKILL');
  await first.ended;
  // At once, while what it started is still ending.
  const second = await running(folder);
  expect(second.stdout()).toContain('the encrypted repository');
  await goneAll(below);
});

it('fails when a part of it ends by itself, and ends the rest', async () => {
  const program = await running(await temporaryFolder());
  const below = descendants(program.pid);
  process.kill(descendantRunning(program.pid, 'azurite-process'), 'SIGKILL');
  expect(await program.ended).toBe(1);
  expect(program.stderr()).toContain('Azurite ended by itself');
  await goneAll(below);
});

it('is refused while another one uses the folder, and does not disturb it', async () => {
  const folder = await temporaryFolder();
  const first = await running(folder);
  const second = startStack(folder);
  expect(await second.ended).toBe(1);
  expect(second.stderr()).toContain(folder);
  expect(second.stderr()).toContain('is in use by a local stack');
  expect(second.stderr()).toContain('FIRN_LOCAL_FOLDER');
  expect(descendants(first.pid).filter(isAlive)).toHaveLength(2);
  await runPrinted(first, 'npx firn snapshots');
});

it.each([
  ['FIRN_LOCAL_BLOB_PORT', 'blob storage'],
  ['FIRN_LOCAL_QUEUE_PORT', 'queue storage'],
  ['FIRN_HTTP_PORT', 'functions host'],
])(
  'says which port is in use, what needs it, and that %s chooses another; and leaves nothing running',
  async (setting, what) => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const address = server.address();
    const port = String(typeof address === 'object' ? address?.port : address);
    const folder = await temporaryFolder();
    const program = startStack(folder, { [setting]: port });
    const below = await endedWithAll(program);
    expect(await program.ended).toBe(1);
    expect(program.stderr()).toContain(`The port ${port} on 127.0.0.1 is in use`);
    expect(program.stderr()).toContain(what);
    expect(program.stderr()).toContain(setting);
    expect(program.stdout()).not.toContain(RUNNING);
    expect(below.filter(isAlive)).toEqual([]);
  },
);

it('names a setting that cannot be read, with exit code 2', async () => {
  const program = startStack(await temporaryFolder(), { FIRN_HTTP_PORT: 'seven' });
  expect(await program.ended).toBe(2);
  expect(program.stderr()).toContain('FIRN_HTTP_PORT');
});

it('uses the passphrase and the name that it is given, keeps none, and says so', async () => {
  const folder = await temporaryFolder();
  const program = await running(folder, { FIRN_PASSPHRASE: 'of the user', FIRN_REPOSITORY: 'mine' });
  expect(program.stdout()).toContain('with your FIRN_PASSPHRASE');
  expect(program.stdout()).toContain('export FIRN_REPOSITORY=mine');
  expect(program.stdout()).not.toContain('of the user');
  await expect(stat(path.join(folder, 'passphrase'))).rejects.toMatchObject({ code: 'ENOENT' });
  program.signal('SIGINT');
  await program.ended;

  const wrong = startStack(folder, { FIRN_PASSPHRASE: 'another', FIRN_REPOSITORY: 'mine' });
  expect(await wrong.ended).toBe(1);
  expect(wrong.stderr()).toContain('The passphrase opens none of the keys');
});

it('keeps the log of a run that was long apart from that of the next', async () => {
  const folder = await temporaryFolder();
  const log = path.join(folder, 'host.log');
  await writeFile(log, 'x'.repeat(17 * 1024 * 1024));
  const program = await running(folder);
  program.signal('SIGINT');
  await program.ended;
  expect((await stat(`${log}.old`)).size).toBeGreaterThan(16 * 1024 * 1024);
  expect((await stat(log)).size).toBeLessThan(1024 * 1024);
});

it('runs the command line of the clone with npx', async () => {
  const { version } = JSON.parse(await readFile(path.join(clone, 'package.json'), 'utf8'));
  const npx = start('npx', ['firn', '--version']);
  expect(await npx.ended).toBe(0);
  expect(npx.stdout()).toBe(`${version}\n`);
});

import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { recordUpload } from '../../src/archive/batches.ts';
import type { CliIo } from '../../src/cli/command.ts';
import { connectFromEnvironment, openFromEnvironment } from '../../src/open-from-environment.ts';
import type { Repository } from '../../src/repository.ts';
import { systemClock } from '../../src/storage/lock-clock.ts';
import type { Lock } from '../../src/storage/lock-lease.ts';
import { createLocks } from '../../src/storage/locks.ts';
import { azuriteConnectionString, uniqueName } from '../kit/azurite.ts';
import { temporaryFolderOf } from '../kit/local-tree.ts';
import { archiveAll, upload } from '../kit/repository.ts';
import { collector, createCli, PASSPHRASE, runCli } from './cli.ts';
import { runFirnProcess } from './firn-process.ts';

async function hold({ state }: Repository, name: string, owner = 'ann', clock = systemClock): Promise<Lock> {
  return await createLocks(state.store, { owner, clock }).acquire(name, { reason: `test of ${name}`, waitMsMax: 0 });
}

const isHeld = async ({ state }: Repository, name: string) => (await state.store.properties(`locks/${name}`)).leased;

describe('firn locks', () => {
  it('lists every lock: held or free, owner, since when, how long ago, why, and token', async () => {
    const { repository, containers, cli } = await createCli();
    await upload(repository, 'docs/a', 'one');
    await cli('publish', 'docs');
    const since = '2026-01-02T03:04:05.678Z';
    const clock = { ...systemClock, date: () => new Date(since) };
    await (await hold(repository, 'repair', 'bob', clock)).release();
    await using lock = await hold(repository, 'publish-docs', 'ann', clock);
    // Without a passphrase, and 90 s later.
    const options = { containers, env: {}, now: () => new Date(Date.parse(since) + 90_000) };
    expect((await runCli(['locks', '--json'], options)).json).toEqual([
      { lock: 'publish-docs', held: true, owner: 'ann', since, seconds: 90, reason: 'test of publish-docs', token: 2 },
      { lock: 'repair', held: false, owner: 'bob', since, seconds: 90, reason: 'test of repair', token: 1 },
    ]);
    expect(lock.token).toBe(2);
    const { code, stdout } = await runCli(['locks'], options);
    expect(code).toBe(0);
    const taken = `${since.slice(0, 10)} ${since.slice(11, 19)}`;
    const [titles, first, second] = stdout.split('\n').map((line) => line.split(/ {2,}/));
    expect(titles).toEqual(['LOCK', 'STATE', 'TAKEN', 'AGO', 'OWNER', 'TOKEN', 'REASON']);
    expect(first).toEqual(['publish-docs', 'held', taken, '1 min 30 s', 'ann', '2', 'test of publish-docs']);
    expect(second).toEqual(['repair', 'free', taken, '1 min 30 s', 'bob', '1', 'test of repair']);
  });

  it('says when there are none, and shows one whose record cannot be read', async () => {
    const { repository, cli } = await createCli();
    expect(await cli('locks')).toMatchObject({ code: 0, stdout: '', stderr: expect.stringContaining('no locks') });
    expect(await cli('locks', '--json')).toMatchObject({ code: 0, stdout: '', stderr: '' });
    await repository.state.store.create('locks/odd', Buffer.from('{'));
    const nothing = { owner: null, since: null, seconds: null, reason: null, token: null };
    expect((await cli('locks', '--json')).json).toEqual([{ lock: 'odd', held: false, ...nothing }]);
    expect((await cli('locks')).stdout).toMatch(/^odd +free +- +- +- +- +-$/m);
  });
});

describe('firn unlock', () => {
  it('knows no lock that is not there, names the nearest, and leaves a free one alone', async () => {
    const { repository, cli } = await createCli();
    await (await hold(repository, 'publish-docs')).release();
    expect(await cli('unlock', 'publish-dosc', '--yes', '--json')).toMatchObject({
      code: 1,
      stdout: '',
      errors: [
        {
          error: 'FIRN_LOCK_UNKNOWN',
          message: 'There is no lock publish-dosc.',
          advice: expect.stringContaining('publish-docs'),
        },
      ],
    });
    expect(await cli('unlock', '../x')).toMatchObject({ code: 1, stderr: expect.stringContaining('firn locks') });
    expect(await cli('unlock', 'publish-docs')).toMatchObject({
      code: 0,
      stdout: 'Nobody holds the lock publish-docs; there is nothing to break.\n',
    });
    expect((await cli('unlock', 'publish-docs', '--json')).json).toMatchObject([
      { lock: 'publish-docs', broken: false },
    ]);
  });

  it('wants --yes where nobody can be asked, also on a terminal with --json, and then breaks nothing', async () => {
    const { repository, containers, cli } = await createCli();
    await using _ = await hold(repository, 'publish-docs');
    const { code, stderr } = await cli('unlock', 'publish-docs');
    expect(code).toBe(2);
    expect(stderr).toMatch(/held by ann since .* \(test of publish-docs\)/);
    expect(stderr).toContain('--yes');
    const pipe = new PassThrough();
    pipe.end('y\n');
    const unasked: [string[], Partial<CliIo>][] = [
      [['--json'], { stdin: terminal('y\n'), stderr: collector(200) }],
      [[], { stdin: pipe, stderr: collector(200) }],
      [[], { stdin: terminal('y\n'), stderr: collector() }],
    ];
    for (const [argv, io] of unasked) {
      expect((await runCli(['unlock', 'publish-docs', ...argv], { containers, ...io })).code).toBe(2);
    }
    expect(await isHeld(repository, 'publish-docs')).toBe(true);
  });

  it.each([
    ['publish-docs', 'goes on with its plan'],
    ['repair', 'firn repair-index'],
  ])('with --yes says whose %s it breaks and what may happen, and frees it', async (name, consequence) => {
    const { repository, cli } = await createCli();
    const lock = await hold(repository, name);
    const { code, stdout, stderr } = await cli('unlock', name, '--yes');
    expect({ code, stdout }).toEqual({ code: 0, stdout: `The lock ${name} is free.\n` });
    expect(stderr).toMatch(new RegExp(`^The lock ${name} is held by ann since .* \\(test of ${name}\\), .* ago\\.`));
    expect(stderr).toContain(consequence);
    await using next = await hold(repository, name, 'bob');
    expect(await lock.release()).toBe(false);
    expect((await cli('unlock', name, '-y', '--json')).json).toEqual([
      {
        lock: name,
        broken: true,
        owner: 'bob',
        since: expect.any(String),
        reason: `test of ${name}`,
        token: next.token,
      },
    ]);
  });

  it.each([
    ['y\n', 0, false],
    ['YES\n', 0, false],
    ['n\n', 130, true],
    ['\n', 130, true],
    ['', 130, true],
    ['yesterday\n', 130, true],
  ])(
    'asks on a terminal; the answer %j ends with %i, and whether it is held then is %s',
    async (answer, code, held) => {
      const { repository, containers } = await createCli();
      await using _ = await hold(repository, 'publish-docs');
      const asked = askUnlock(containers, answer);
      expect((await asked.run).code).toBe(code);
      expect(asked.stderr.text()).toContain('Break the lock publish-docs? [y/N]');
      expect(await isHeld(repository, 'publish-docs')).toBe(held);
    },
  );

  it('breaks nothing when the lock changed hands or was given back while it asked, or when it is cancelled', async () => {
    const { repository, containers } = await createCli();
    const first = await hold(repository, 'publish-docs');
    const changed = askUnlock(containers, undefined);
    await changed.question();
    await first.release();
    const second = await hold(repository, 'publish-docs', 'bob');
    changed.stdin.write('y\n');
    expect((await changed.run).code).toBe(1);
    expect(changed.stderr.text()).toMatch(/held by bob since .*\n.*firn locks/);
    expect(await isHeld(repository, 'publish-docs')).toBe(true);

    const controller = new AbortController();
    const cancelled = askUnlock(containers, undefined, { signal: controller.signal });
    await cancelled.question();
    controller.abort();
    expect((await cancelled.run).code).toBe(130);
    expect(await isHeld(repository, 'publish-docs')).toBe(true);

    const late = askUnlock(containers, undefined);
    await late.question();
    await second.release();
    late.stdin.write('y\n');
    expect(await late.run).toMatchObject({ code: 0, stdout: expect.stringContaining('Nobody holds') });
  });
});

/** What is typed at it, to its end where that is given. */
function terminal(typed?: string) {
  const stdin = Object.assign(new PassThrough(), { isTTY: true });
  if (typed !== undefined) stdin.end(typed);
  return stdin;
}

async function saysIn(stream: { text(): string }, words: string): Promise<void> {
  await vi.waitUntil(() => stream.text().includes(words), { interval: 5, timeout: 60_000 });
}

/** `firn unlock publish-docs` at a terminal. */
function askUnlock(containers: CliIo['containers'], answer: string | undefined, options: Partial<CliIo> = {}) {
  const stdin = terminal(answer);
  const stderr = collector(200);
  const run = runCli(['unlock', 'publish-docs'], { containers, stdin, stderr, ...options });
  return { run, stdin, stderr, question: () => saysIn(stderr, '[y/N]') };
}

describe('who has to wait for a lock', () => {
  it('is told by whom it is held; when the wait runs out nothing is lost', async () => {
    const { repository, containers } = await createCli();
    await upload(repository, 'docs/a', 'one');
    await archiveAll(repository, 'docs');
    const lock = await hold(repository, 'publish-docs');
    const env = { FIRN_PASSPHRASE: PASSPHRASE, FIRN_LOCK_WAIT_SECONDS: '0' };
    const folder = await temporaryFolderOf({ b: 'two' });
    for (const argv of [
      ['publish', 'docs'],
      ['archive', folder, '--source', 'docs'],
    ]) {
      expect(await runCli([...argv, '--json'], { containers, env })).toMatchObject({
        code: 1,
        stdout: '',
        errors: [
          { error: 'FIRN_LOCK_BUSY', message: expect.stringMatching(/^The lock publish-docs is held by ann since/) },
        ],
      });
    }
    await lock.release();
    expect(await runCli(['publish', 'docs'], { containers, env })).toMatchObject({ code: 0 });
    const { json } = await runCli(['ls', 'latest:docs', '--json'], { containers, env });
    expect(json.map((line) => line.path)).toEqual(['a', 'b']);
  });

  it('repairs once the publish that it waits for has ended', async () => {
    const { repository, containers } = await createCli();
    const lock = await hold(repository, 'publish-docs');
    const stderr = collector();
    const repairing = runCli(['repair-index', '--root', 'a'], { containers, stderr });
    await saysIn(stderr, 'Waiting for it.');
    await lock.release();
    expect(await repairing).toMatchObject({ code: 0 });
    expect(stderr.text()).toMatch(/^The lock publish-docs is held by ann since .* Waiting for it\.$/m);
  });
});

describe('on Azurite, in processes of their own', () => {
  async function created() {
    const env = { FIRN_STORAGE: azuriteConnectionString(), FIRN_REPOSITORY: uniqueName(), FIRN_PASSPHRASE: PASSPHRASE };
    const { containers } = connectFromEnvironment(env);
    expect(await runCli(['locks'], { env, containers })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('There is no repository'),
    });
    expect(await runCli(['init'], { env, containers })).toMatchObject({ code: 0 });
    const { repository } = await openFromEnvironment(env);
    await repository.inbox.create('docs/a', Buffer.from('one'));
    await recordUpload(repository, 'docs/a');
    return { env, containers, repository };
  }

  it('two publishes wait for a lock until it is broken; then one publishes and the other finds it done', async () => {
    const { env, containers, repository } = await created();
    await using _ = await hold(repository, 'publish-docs');
    const processes = [publishInProcess(env), publishInProcess(env)];
    await Promise.all(processes.map(({ waits }) => waits));
    expect((await runCli(['locks', '--json'], { env, containers })).json).toMatchObject([
      { lock: 'publish-docs', held: true, owner: 'ann' },
    ]);
    expect(await runCli(['unlock', 'publish-docs', '--yes'], { env, containers })).toMatchObject({ code: 0 });
    const ended = await Promise.all(processes.map(({ run }) => run));
    const [snapshot, ...others] = await Array.fromAsync(repository.snapshots.list());
    expect(others).toEqual([]);
    const line = `Snapshot ${snapshot?.id} of docs: 1 file, 3 B\n`;
    expect(
      ended.map(({ code, stdout }) => ({ code, stdout })).sort((a, b) => b.stdout.length - a.stdout.length),
    ).toEqual([
      { code: 0, stdout: `Another run has published it.\n${line}` },
      { code: 0, stdout: line },
    ]);
    expect((await runCli(['locks', '--json'], { env, containers })).json).toMatchObject([{ held: false, token: 3 }]);
  });
});

/** `firn publish docs` in a process, and when it says that it waits. */
function publishInProcess(env: Record<string, string>) {
  const waits = Promise.withResolvers<void>();
  let stderr = '';
  const run = runFirnProcess(['publish', 'docs'], {
    env,
    onStart: (child) =>
      child.stderr?.on('data', (data: Buffer) => {
        stderr += data.toString();
        if (stderr.includes('Waiting for it.')) waits.resolve();
      }),
  });
  run.then(() => waits.reject(new Error('it ended without waiting')), waits.reject);
  return { run, waits: waits.promise };
}

import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { errorCodes } from '../../src/errors.ts';
import { numberSettings } from '../../src/settings.ts';
import { runCli } from './cli.ts';

describe('the help', () => {
  it('is shown by firn, firn --help and firn help, and names every command and setting', async () => {
    for (const argv of [[], ['--help'], ['-h'], ['help']]) {
      const { code, stdout, stderr } = await runCli(argv);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      for (const { name, summary } of commands) expect(stdout).toMatch(new RegExp(`^ {2}${name} +${summary}$`, 'm'));
      for (const { env } of Object.values(numberSettings)) expect(stdout).toContain(env);
      for (const env of ['FIRN_STORAGE', 'FIRN_REPOSITORY', 'FIRN_PASSPHRASE']) expect(stdout).toContain(env);
    }
  });

  it.each(commands.map(({ name }) => name))('of %s has usage, options, examples and exit codes', async (name) => {
    const command = commands.find((each) => each.name === name)!;
    const byOption = await runCli([name, '--help']);
    const byCommand = await runCli(['help', name]);
    expect(byOption).toMatchObject({ code: 0, stderr: '', stdout: byCommand.stdout });
    const { stdout } = byOption;
    expect(stdout).toContain(`Usage: firn ${name}`);
    for (const { name: arg } of command.args) expect(stdout).toContain(arg);
    for (const option of Object.keys(command.options)) expect(stdout).toContain(`--${option}`);
    expect(command.examples.length).toBeGreaterThan(0);
    for (const [line] of command.examples) expect(stdout).toContain(line);
    expect(stdout).toContain('Exit codes:');
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(80);
  });

  it('can be had as JSON, one value a line', async () => {
    const { json } = await runCli(['help', 'ls', '--json']);
    expect(json).toEqual([{ help: expect.stringContaining('Usage: firn ls') }]);
  });

  it('needs neither settings nor storage', async () => {
    expect(await runCli(['ls', '--help'], { env: {}, containers: undefined })).toMatchObject({ code: 0 });
  });
});

describe('the version', () => {
  it('is the one of the package', async () => {
    expect(await runCli(['--version'])).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

describe('a wrong command line', () => {
  it.each([
    [['restor'], 'There is no command «restor»; did you mean «restore»?'],
    [['frobnicate'], 'There is no command «frobnicate»'],
    [['help', 'lst'], 'There is no command «lst»; did you mean «ls»?'],
    [['ls', '--jsom'], 'firn ls: There is no option «--jsom»; did you mean «--json»?'],
    [['ls', '--frobnicate=1'], 'firn ls: There is no option «--frobnicate»'],
    [['ls', '-x'], 'firn ls: There is no option «-x»'],
    [['--frobnicate'], 'There is no option «--frobnicate»'],
    [['restore', 'latest'], 'firn restore: The argument <folder> is missing.'],
    [['diff', 'a', 'b', 'c'], 'firn diff: There is an argument too many: «c».'],
    [['archive', '.'], 'firn archive: The option «--source <name>» is missing.'],
    [['archive', '.', '--source'], 'firn archive: The option «--source» needs a value'],
    [['archive', '.', '--source', '--rehash'], 'firn archive: The option «--source» needs a value'],
    [['archive', '.', '--source='], 'firn archive: The option «--source» has an empty value.'],
    [['archive', '.', '--rehash=yes', '--source', 'a'], 'firn archive: The option «--rehash» takes no value.'],
    [['init', '--chunking', 'rabin'], 'firn init: The option «--chunking» is «rabin»; it can be fastcdc or file.'],
  ])('%j is answered with a hint and exit code 2', async (argv, problem) => {
    const plain = await runCli(argv);
    expect(plain).toMatchObject({ code: 2, stdout: '' });
    expect(plain.stderr).toContain(`firn: ${problem}`);
    expect(plain.stderr).toContain('--help');
    const { code, stdout, errors } = await runCli([...argv, '--json']);
    if (argv.at(-1) === '--source') return;
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(errors).toEqual([
      expect.objectContaining({
        error: 'FIRN_USAGE',
        message: expect.stringContaining(problem),
        advice: errorCodes.FIRN_USAGE.advice,
      }),
    ]);
  });

  it('does not take what follows -- for options, or --json behind it for the wish for JSON', async () => {
    const { code, stderr } = await runCli(['diff', '--', '--json', '-x', 'c']);
    expect(code).toBe(2);
    expect(stderr).toContain('firn: firn diff: There is an argument too many: «c».');
  });

  it('may have common options before the command', async () => {
    const { code, errors } = await runCli(['--json', '--repository', 'other', 'ls']);
    expect(code).toBe(1);
    expect(errors).toEqual([expect.objectContaining({ error: 'FIRN_REPOSITORY_MISSING' })]);
    expect(errors[0]?.message).toContain('other');
  });
});

import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { Output, OutputClosed } from '../../src/cli/output.ts';
import { FirnError } from '../../src/errors.ts';
import { collector } from './cli.ts';

const options = { json: false, quiet: false, debug: false };

describe('progress', () => {
  it('is one line on a terminal, no wider than it, and not drawn more often than a person can see', () => {
    const stderr = collector(20);
    const output = new Output(collector(), stderr, options);
    for (let i = 0; i < 1000; i += 1) output.progress(() => `file ${i} of a thousand files`);
    output.close();
    const text = stderr.text();
    expect(text.startsWith('\r\u001b[Kfile 0 of a thousan')).toBe(true);
    expect(text.split('\r').length).toBeLessThan(20);
    expect(text.endsWith('\r\u001b[K')).toBe(true);
    expect(text).not.toContain('\n');
  });

  it('makes way for messages', () => {
    const stderr = collector(80);
    const output = new Output(collector(), stderr, options);
    output.progress(() => 'working');
    output.message('a message');
    expect(stderr.text()).toBe('\r\u001b[Kworking\r\u001b[Ka message\n');
  });

  it('is never shown where there is no terminal, nor with --quiet', () => {
    const file = collector();
    new Output(collector(), file, options).progress(() => 'working');
    expect(file.text()).toBe('');
    const terminal = collector(80);
    new Output(collector(), terminal, { ...options, quiet: true }).progress(() => 'working');
    expect(terminal.text()).toBe('');
  });

  it('shows no name as it is that could act on the terminal', () => {
    const stderr = collector(80);
    new Output(collector(), stderr, options).progress(() => 'a\nb\u001b[31m');
    expect(stderr.text()).toBe('\r\u001b[Ka\\nb\\x1b[31m');
  });
});

describe('results', () => {
  it('are text, or one JSON value a line', async () => {
    const text = collector();
    const plain = new Output(text, collector(), options);
    await plain.result({ a: 1 }, () => 'a is 1');
    await plain.jsonLine({ b: 2 });
    await plain.line('more');
    await plain.flush();
    expect(text.text()).toBe('a is 1\nmore\n');

    const lines = collector();
    const json = new Output(lines, collector(), { ...options, json: true });
    await json.result({ a: 'x\ny' }, () => 'never');
    await json.jsonLine({ b: 2 });
    await json.line('never');
    await json.flush();
    expect(lines.text()).toBe('{"a":"x\\ny"}\n{"b":2}\n');
  });

  it('end with OutputClosed when nobody reads them any more', async () => {
    const closed = new Writable({
      write(_chunk, _encoding, done) {
        done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      },
    });
    const output = new Output(closed, collector(), options);
    await output.line('x');
    await expect(output.flush()).rejects.toBeInstanceOf(OutputClosed);
    await output.line('y');
    await expect(output.flush()).rejects.toBeInstanceOf(OutputClosed);
  });
});

describe('errors', () => {
  const error = new FirnError('FIRN_FILE_DAMAGED', { path: 'a\nb' }, { cause: new Error('deep inside') });

  it('are told with their advice, names made visible', () => {
    const stderr = collector();
    new Output(collector(), stderr, options).failure(error);
    expect(stderr.text()).toBe(
      'firn: The file a\\nb does not have the content that the snapshot promises.\nThe file was left out. Restore it from an older snapshot.\n',
    );
  });

  it('are one line of JSON with --json', () => {
    const stderr = collector();
    new Output(collector(), stderr, { ...options, json: true }).failure(error);
    expect(JSON.parse(stderr.text())).toEqual({
      error: 'FIRN_FILE_DAMAGED',
      message: 'The file a\nb does not have the content that the snapshot promises.',
      advice: 'The file was left out. Restore it from an older snapshot.',
      details: { path: 'a\nb' },
    });
  });

  it('come with stacks and causes only for who asks', () => {
    const stderr = collector();
    new Output(collector(), stderr, { ...options, debug: true }).failure(error);
    expect(stderr.text()).toContain('output.test.ts');
    expect(stderr.text()).toContain('caused by: Error: deep inside');
    expect(stderr.text()).toContain('[FIRN_FILE_DAMAGED]');
  });
});

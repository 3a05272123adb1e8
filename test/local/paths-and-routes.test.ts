import { expect, test } from 'vitest';
import { parseBlobPath } from '../../src/local/blob-path.ts';
import type { HostedFunction } from '../../src/local/functions.ts';
import { createRoutes } from '../../src/local/http-routes.ts';

test.each([
  ['inbox', 'a/b', {}],
  ['inbox/{name}', 'a/b.txt', { name: 'a/b.txt' }],
  ['inbox/in/{name}.{extension}', 'in/a.b.txt', { name: 'a.b', extension: 'txt' }],
  ['inbox/in/{name}.{extension}', 'out/a.txt', undefined],
  ['inbox/{{x}}/{name}', '{x}/a', { name: 'a' }],
  ['inbox/a+b/{name}', 'a+b/line\nbreak', { name: 'line\nbreak' }],
])('the path %s and the blob %s', (path, blob, expected) => {
  expect(parseBlobPath(path, 'f').match(blob)).toEqual(expected);
});

test('a listing is narrowed to what every matching name begins with', () => {
  expect(parseBlobPath('inbox/in/{name}.txt', 'f').prefix).toBe('in/');
});

test.each(['Inbox/{name}', '/x', 'inbox/{name', 'inbox/{a}/{a}', 'inbox/{a b}'])('the path %s is refused', (path) => {
  expect(() => parseBlobPath(path, 'f')).toThrow(expect.objectContaining({ code: 'FIRN_FUNCTION_INVALID' }));
});

function httpFunction(name: string, route: string, methods = ['GET']): HostedFunction {
  const binding = { type: 'httpTrigger', direction: 'in' as const, route, methods };
  return {
    name,
    kind: 'httptrigger',
    trigger: { name: 'req', binding },
    extraInputs: [],
    outputs: [],
    callback: () => undefined,
    metadata: { name, bindings: { req: binding } },
  };
}

test('a literal segment is preferred to a parameter, a constrained one to a free one, the rest comes last', () => {
  const routes = createRoutes(
    [
      httpFunction('rest', 'x/{*all}'),
      httpFunction('free', 'x/{id}'),
      httpFunction('number', 'x/{id:int}'),
      httpFunction('literal', 'x/now'),
      httpFunction('optional', 'y/{id?}'),
    ],
    'api',
  );
  const find = (path: string): unknown => {
    const found = routes.find('GET', path);
    return typeof found === 'object' ? [found.target.name, found.params] : found;
  };
  expect(find('/api/x/now')).toEqual(['literal', {}]);
  expect(find('/API/X/7')).toEqual(['number', { id: '7' }]);
  expect(find('/api/x/a%2Fb')).toEqual(['free', { id: 'a/b' }]);
  expect(find('/api/x/a/b')).toEqual(['rest', { all: 'a/b' }]);
  expect(find('/api/y')).toEqual(['optional', {}]);
  expect(find('/x/now')).toBeUndefined();
  expect(routes.find('POST', '/api/x/now')).toBe('method');
});

test('two functions may share a route with other methods, not with the same', () => {
  expect(() =>
    createRoutes([httpFunction('a', 'x/{id}'), httpFunction('b', 'x/{name}', ['PUT'])], 'api'),
  ).not.toThrow();
  expect(() => createRoutes([httpFunction('a', 'x/{id}'), httpFunction('b', 'X/{name}')], 'api')).toThrow(
    'the function a has the same route and method',
  );
});

test.each(['{id:regex(a)}', 'a{b}c', 'admin/x'])('the route %s is refused', (route) => {
  const prefix = route.startsWith('admin') ? '' : 'api';
  expect(() => createRoutes([httpFunction('a', route)], prefix)).toThrow(
    expect.objectContaining({ code: 'FIRN_FUNCTION_INVALID' }),
  );
});

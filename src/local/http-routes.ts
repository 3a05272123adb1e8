/**
 * Which HTTP-triggered function answers a request: `route` with `{param}`, `{param?}`, `{*rest}` and the constraints
 * `int`, `long`, `bool`, `guid` and `alpha`, under the host's route prefix. Pure.
 *
 * As in the real host, routes are compared without regard to case, and a literal segment is preferred to a parameter.
 */
import { FirnError } from '../errors.ts';
import type { HostedFunction } from './functions.ts';

export interface RouteMatch {
  readonly target: HostedFunction;
  readonly params: Readonly<Record<string, string>>;
}

export interface Routes {
  /** `method` where a function has the route but not the method. */
  find(method: string, path: string): RouteMatch | 'method' | undefined;
}

interface Route {
  readonly target: HostedFunction;
  readonly methods: readonly string[];
  readonly expression: RegExp;
  readonly params: readonly string[];
  readonly rank: string;
}

const constraints: Readonly<Record<string, string>> = {
  int: '-?\\d+',
  long: '-?\\d+',
  bool: 'true|false',
  guid: '[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}',
  alpha: '[a-z]+',
};

/** FIRN_FUNCTION_INVALID for a route that cannot be read, or that two functions share. */
export function createRoutes(functions: readonly HostedFunction[], routePrefix: string): Routes {
  const routes = functions
    .filter(({ kind }) => kind === 'httptrigger')
    .map((target) => parseRoute(target, routePrefix))
    .sort((a, b) => (a.rank < b.rank ? -1 : a.rank > b.rank ? 1 : 0));
  for (const [index, route] of routes.entries()) {
    const same = routes
      .slice(index + 1)
      .find((other) => other.rank === route.rank && other.methods.some((method) => route.methods.includes(method)));
    if (same !== undefined) {
      throw new FirnError('FIRN_FUNCTION_INVALID', {
        function: same.target.name,
        problem: `the function ${route.target.name} has the same route and method`,
      });
    }
  }
  return {
    find(method, path) {
      let other = false;
      for (const { target, methods, expression, params } of routes) {
        const found = expression.exec(path);
        if (found === null) continue;
        if (!methods.includes(method.toUpperCase())) {
          other = true;
          continue;
        }
        const values = params.flatMap((name, index) => {
          const value = found[index + 1];
          return value === undefined ? [] : [[name, decodeURIComponent(value)] as const];
        });
        return { target, params: Object.fromEntries(values) };
      }
      return other ? 'method' : undefined;
    },
  };
}

function parseRoute(target: HostedFunction, routePrefix: string): Route {
  const { binding } = target.trigger;
  const route = typeof binding.route === 'string' && binding.route !== '' ? binding.route : target.name;
  const refuse = (problem: string): never => {
    throw new FirnError('FIRN_FUNCTION_INVALID', {
      function: target.name,
      problem: `its route «${route}» ${problem}`,
    });
  };
  const methods = Array.isArray(binding.methods) ? binding.methods.map((method) => String(method).toUpperCase()) : [];
  const path = [routePrefix, route.replace(/^\/+/, '')].filter((part) => part !== '').join('/');
  if (/^(admin|runtime)(\/|$)/i.test(path)) refuse('begins with a name that the host keeps for itself');

  const params: string[] = [];
  let expression = '';
  let rank = '';
  for (const segment of path.split('/')) {
    const rest = /^\{\*+([A-Za-z_]\w*)\}$/.exec(segment);
    const param = /^\{([A-Za-z_]\w*)(?::([a-z]+))?(\?)?\}$/.exec(segment);
    if (rest?.[1] !== undefined) {
      params.push(rest[1]);
      expression += '(?:/(.*))?';
      rank += '/3';
    } else if (param?.[1] !== undefined) {
      const [, name, constraint, optional] = param;
      params.push(name);
      const value = constraint === undefined ? '[^/]+' : constraints[constraint];
      if (value === undefined) refuse(`has a constraint that is not supported: ${constraint}`);
      expression += optional === undefined ? `/(${value})` : `(?:/(${value}))?`;
      rank += constraint === undefined ? '/2' : '/1';
    } else {
      if (/[{}]/.test(segment)) refuse(`has a segment that is not supported: ${segment}`);
      expression += `/${segment.replace(/[\\^$.*+?()[\]|]/g, '\\$&')}`;
      rank += `/0${segment.toLowerCase()}`;
    }
  }
  return {
    target,
    methods: methods.length === 0 ? ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS'] : methods,
    expression: new RegExp(`^${expression}/?$`, 'i'),
    params,
    rank,
  };
}

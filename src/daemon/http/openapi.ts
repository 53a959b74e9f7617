import { ERROR_TABLE, type ErrorCode } from '../../errors.js';
import { OPERATIONS } from '../../wire/frames.js';
import type { Member, Schema } from './members.js';
import { OPEN_PATHS, type OpenPath, ROUTES, type Route, takesBody } from './routes.js';

const ERROR_SCHEMA = { $ref: '#/components/schemas/Error' };
const OPEN_SUMMARIES: Record<OpenPath, string> = {
  '/healthz': 'Whether the service can use its keys',
  '/health': 'The same',
  '/readyz': 'Whether it can make keys too',
  '/metrics': 'What it serves and how it is, in the text format of Prometheus',
  '/openapi.json': 'This document',
};

function json(schema: Schema): object {
  return { 'application/json': { schema } };
}

function errorResponses(): Record<string, object> {
  const codes = new Map<number, ErrorCode[]>();
  for (const code of Object.keys(ERROR_TABLE) as ErrorCode[]) {
    const { http } = ERROR_TABLE[code];
    codes.set(http, [...(codes.get(http) ?? []), code]);
  }
  const responses = [...codes].map(([status, names]) => [
    String(status),
    { description: names.join(', '), content: json(ERROR_SCHEMA) },
  ]);
  return Object.fromEntries(responses);
}

function bodyOf(members: readonly Member[]): object {
  const required = members.filter((member) => member.required).map(({ name }) => name);
  const properties = Object.fromEntries(members.map(({ name, schema }) => [name, schema]));
  const schema = { type: 'object', properties, ...(required.length === 0 ? {} : { required }) };
  return { required: required.length > 0, content: json(schema) };
}

function parametersOf(route: Route): object[] {
  const { path, members } = route;
  const names = [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
  const inPath = names.map((name) => ({ name, in: 'path', required: true, schema: { type: 'string' } }));
  if (takesBody(route)) return inPath;
  return [...inPath, ...members.map(({ name, required, schema }) => ({ name, in: 'query', required, schema }))];
}

function operationOf(route: Route): object {
  const operation = OPERATIONS[route.op]!;
  const role = operation.ownKeys ? `${operation.role}, or client on keys it created` : operation.role;
  return {
    operationId: `${route.method.toLowerCase()} ${route.path}`.replaceAll(/[^a-z]+/gi, '_').replace(/_$/, ''),
    summary: route.summary,
    description: `Least role: ${role}.`,
    parameters: parametersOf(route),
    ...(takesBody(route) ? { requestBody: bodyOf(route.members) } : {}),
    responses: { 200: { description: 'Done', content: json(route.answers) }, ...errorResponses() },
  };
}

function openOperation(path: OpenPath): object {
  const summary = OPEN_SUMMARIES[path];
  if (path !== '/metrics') return { summary, security: [], responses: { 200: { description: 'Yes' }, ...errorResponses() } };
  const content = { 'text/plain': { schema: { type: 'string' } } };
  const responses = { 200: { description: 'Done', content }, ...errorResponses() };
  return { summary, description: 'Least role: auditor.', responses };
}

function pathsOf(): Record<string, Record<string, object>> {
  const paths: Record<string, Record<string, object>> = {};
  for (const path of OPEN_PATHS) paths[path] = { get: openOperation(path) };
  for (const route of ROUTES) paths[route.path] = { ...paths[route.path], [route.method.toLowerCase()]: operationOf(route) };
  return paths;
}

/** The OpenAPI 3.0 document of the surface, made from the table that requests are served by. */
export function openApi(version: string): object {
  return {
    openapi: '3.0.3',
    info: {
      title: 'progressdb-kms',
      version,
      description: 'Binaries are padded standard base64. On a Unix socket the uid of the peer is the identity.',
    },
    paths: pathsOf(),
    components: {
      schemas: {
        Error: {
          type: 'object',
          required: ['error'],
          properties: {
            error: {
              type: 'object',
              required: ['code', 'message'],
              properties: { code: { type: 'string', enum: Object.keys(ERROR_TABLE) }, message: { type: 'string' } },
            },
          },
        },
      },
    },
  };
}

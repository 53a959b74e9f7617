import { type IncomingHttpHeaders, request } from 'node:http';

export interface HttpAnswer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** Undefined unless the answer is JSON. */
  json: Record<string, unknown> | undefined;
}

export interface HttpAsk {
  method?: string;
  path: string;
  /** Text as it is, anything else as JSON. */
  body?: unknown;
  headers?: Record<string, string | number>;
}

/** One request over a connection of its own, by the path of a socket or a port of 127.0.0.1. */
export function askHttp(to: string | number, { method, path, body, headers = {} }: HttpAsk): Promise<HttpAnswer> {
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const asked = request(
      {
        ...(typeof to === 'string' ? { socketPath: to } : { host: '127.0.0.1', port: to }),
        method: method ?? (text === undefined ? 'GET' : 'POST'),
        path,
        headers,
        agent: false,
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const whole = Buffer.concat(chunks).toString('utf8');
          const isJson = response.headers['content-type'] === 'application/json' && whole !== '';
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text: whole,
            json: isJson ? (JSON.parse(whole) as Record<string, unknown>) : undefined,
          });
        });
      },
    );
    asked.on('error', reject);
    asked.end(text);
  });
}

/** The code in the body of an error. */
export function codeOf({ json }: HttpAnswer): unknown {
  return (json?.['error'] as { code?: unknown } | undefined)?.code;
}

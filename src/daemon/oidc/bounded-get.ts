/**
 * The body of a URL, asked for once: no redirect is followed, no proxy asked, and no environment variable turns off the look at
 * its certificate, as one does with `fetch`. Rejects for any status but 200 and for more than `most` bytes.
 */
export async function boundedGet(url: URL, most: number, signal: AbortSignal): Promise<Buffer> {
  const { request } = url.protocol === 'https:' ? await import('node:https') : await import('node:http');
  const headers = { accept: 'application/jwk-set+json, application/json', 'accept-encoding': 'identity' };
  return await new Promise((resolve, reject) => {
    const asked = request(url, { agent: false, rejectUnauthorized: true, minVersion: 'TLSv1.2', headers, signal });
    asked.on('error', reject);
    // Nobody who stops the daemon waits for an issuer.
    asked.on('socket', (socket) => socket.unref());
    asked.on('response', (response) => {
      const fail = (reason: string) => {
        reject(new Error(reason));
        asked.destroy();
      };
      if (response.statusCode !== 200) return fail(`status ${response.statusCode}`);
      const chunks: Buffer[] = [];
      let length = 0;
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length > most) fail(`more than ${most} bytes`);
        else chunks.push(chunk);
      });
      response.on('end', () => resolve(Buffer.concat(chunks)));
      response.on('error', reject);
      // Cut off, it does not end.
      response.on('close', () => reject(new Error('the answer was cut off')));
    });
    asked.end();
  });
}

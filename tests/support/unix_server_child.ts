/**
 * Listens on a Unix socket and prints what it reads, before it reads on.
 *
 * Arguments: the socket, how many bytes to read before standard input gives more, an answer
 * to each line or nothing.
 */

const [path = "", readBytes = "", answer = ""] = Deno.args;
let left = Number(readBytes);
let more = Promise.withResolvers<void>();
(async () => {
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    for (const line of text.split("\n")) left += Number(line);
    more.resolve();
    more = Promise.withResolvers();
  }
})();

try {
  Deno.removeSync(path);
} catch (error) {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
const listener = Deno.listen({ transport: "unix", path });
print(new TextEncoder().encode("listening\n"));
for await (const conn of listener) {
  for (;;) {
    while (left === 0) await more.promise;
    const buffer = new Uint8Array(Math.min(left, 65_536));
    const count = await conn.read(buffer).catch(() => null);
    if (count === null) break;
    left -= count;
    const part = buffer.subarray(0, count);
    print(part);
    const lines = part.filter((byte) => byte === 10).length;
    if (answer !== "") await conn.write(new TextEncoder().encode(answer.repeat(lines)));
  }
  conn.close();
}

function print(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
}

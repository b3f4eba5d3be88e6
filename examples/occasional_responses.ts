/**
 * A protocol of its own: requests with a number, and a server that answers
 * `ok NUMBER` now and then, at the latest 2 s after it got something. A server
 * that hangs still acknowledges with its kernel; only its silence gives it away.
 * So the connection is given up when a response is overdue, and what was not
 * confirmed by then is sent again, over a new connection.
 *
 * ```sh
 * deno run --allow-net=legacy:4000 --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \
 *   --allow-read=outbox.db,outbox.db.lock --allow-write=outbox.db,outbox.db.lock \
 *   examples/occasional_responses.ts tcp://legacy:4000 outbox.db 3
 * ```
 */
// deno-lint-ignore-file no-console -- an example prints
import { Sender } from "../mod.ts"; // elsewhere: "jsr:@sendq/sendq"

const [remote = "tcp://127.0.0.1:4000", queue = "outbox.db", count = "3"] = Deno.args;
const sender = await Sender.open(queue, remote, { responseTimeoutMs: 2000, holdMs: 3000 });

(async () => {
  for await (const { words, verdict } of sender.status()) {
    if (verdict.kind === "no-response") console.log(words);
  }
})();

for (let number = 1; number <= Number(count); number++) {
  await sender.enqueue(`request ${number}\n`);
}

// Requests may arrive twice, and so may their answers.
let rest = "";
const answered = new Set<number>();
for await (const text of sender.received.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) answered.add(Number(/^ok (\d+)$/.exec(line)?.[1] ?? NaN));
  if (answered.has(Number(count))) break;
}
console.log(`request ${count} is answered`);
await sender.close();

import assert from "node:assert/strict";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { within } from "../support/until.ts";

const ROUNDS = 12;

Deno.test(`killed -9 while enqueuing and sending, ${ROUNDS} times on one queue: nothing is lost`, async () => {
  const directory = await Deno.makeTempDir();
  const queue = `${directory}/outbox.db`;
  await using server = new ScriptedServer().start();
  const texts = server.readAll();
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  let state = seed;
  const random = () => (state = (state * 1664525 + 1013904223) >>> 0) / 2 ** 32;

  const promised: number[] = [];
  let first = 1;
  for (let round = 0; round < ROUNDS; round++) {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        "--allow-net=127.0.0.1",
        `--allow-read=${directory}`,
        `--allow-write=${directory}`,
        `--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}`,
        new URL("sending_child.ts", import.meta.url).pathname,
        queue,
        server.remote,
        String(first),
      ],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    // Death comes after a random number of acknowledged enqueues, at whatever
    // step of sending the child has reached by then.
    const deathAfter = Math.ceil(random() * 60);
    let output = "";
    let killed = false;
    for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
      output += part;
      if (!killed && output.split("\n").length > deathAfter) {
        killed = true;
        child.kill("SIGKILL");
      }
    }
    await child.status;
    assert.ok(killed, `the child ended by itself; seed ${seed}`);
    // A last line cut short by the kill promises nothing.
    const last = Number(output.slice(0, output.lastIndexOf("\n")).split("\n").at(-1));
    for (let number = first; number <= last; number++) promised.push(number);
    // One more group of four may be stored and was not promised: leave it its numbers.
    first = last + 5;
  }

  const sender = await Sender.open({ queue, remote: server.remote });
  await within("every packet has drained", sender.drained());
  await within("the close", sender.close({ deliverTimeoutMs: Infinity }));
  assert.equal(sender.stats().queue.packets, 0);

  const received = new Set<number>();
  for (const text of texts) {
    // A connection that died with its process may end inside a packet.
    const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1);
    let before = 0;
    for (const number of lines.map(Number)) {
      assert.ok(number > before, `${number} came after ${before}; seed ${seed}`);
      received.add(before = number);
    }
  }
  assert.deepEqual(promised.filter((number) => !received.has(number)), [], `seed ${seed}`);
  await Deno.remove(directory, { recursive: true });
});

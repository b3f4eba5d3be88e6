/**
 * `--confirm answer` and its flags.
 */
import assert from "node:assert/strict";
import { Sender } from "../../src/sender/sender.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { type Outcome, packetsIn, runHere } from "./helpers.ts";

/** A server that answers each line by its words. */
async function answering(
  server: ScriptedServer,
  answer: (line: string) => string,
): Promise<void> {
  await server.serve(async (connection) => {
    let rest = "";
    for (;;) {
      const part = await connection.read();
      if (part === "") return connection.close();
      const lines = (rest + part).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) await connection.write(answer(line));
    }
  });
}

function send(
  remote: string,
  queue: string,
  input: string,
  ...options: string[]
): Promise<Outcome> {
  return runHere(["send", remote, "-q", queue, ...options], input);
}

const ANSWER = ["--confirm", "answer", "--accepted", "OK", "--refused", "/^(ERR|NO)/"] as const;

Deno.test("send waits for answers, and exits with 0 when all are good", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const served = answering(server, () => "OK\n");
  const { code, err } = await send(server.remote, dir.queue, "a\nb\nc\n", ...ANSWER);
  assert.equal(code, 0, err);
  assert.match(err, /done: 3 packets delivered\n$/);
  assert.equal(await packetsIn(dir.queue), 0);
  await server[Symbol.asyncDispose]();
  await served;
});

Deno.test("what was sent twice was delivered once", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const sending = send(
    ...[server.remote, dir.queue, "a\nb\nc\n", ...ANSWER, "--max-unanswered", "3"] as const,
  );
  const first = await server.accept();
  await first.readUntil("c\n");
  first.close();
  const second = await server.accept();
  await second.readUntil("c\n");
  await second.write("OK\nOK\nOK\n");
  await second.read();
  second.close();
  const { code, err } = await sending;
  assert.equal(code, 0, err);
  assert.match(err, /done: 3 packets delivered, 3 packets sent again\n$/);
});

Deno.test("what is refused is told with its number, exits with 1, and is shown with its words", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const served = answering(server, (line) => line === "b" ? "NO, not b\x1b[31m\n" : "OK\n");
  const { code, err } = await send(
    server.remote,
    dir.queue,
    "a\nb\nc\n",
    ...ANSWER,
    ...["--max-unanswered", "3"],
  );
  assert.equal(code, 1, err);
  assert.match(err, /done: 2 packets delivered, 1 refused\n/);
  assert.match(
    err,
    /the server refused 1 packet, which is a dead letter with its words: see sendq list --dead\n$/,
  );
  const listed = await runHere(["list", "--dead", "-q", dir.queue]);
  assert.match(listed.out, / 2 .* 2 B {2}refused, was sent: "NO, not b\\x1b\[31m"\n/);
  const shown = await runHere(["show", "2", "--dead", "-q", dir.queue]);
  assert.match(shown.out, /reason +refused by the server\nwords +"NO, not b\\x1b\[31m"\n/);
  const exported = await runHere(["list", "--dead", "--json", "-q", dir.queue]);
  assert.equal(JSON.parse(exported.out).words, '"NO, not b\\x1b[31m"');
  const status = await runHere(["status", "-q", dir.queue]);
  assert.match(status.out, /1 refused \(sendq list --dead\)/);
  await server[Symbol.asyncDispose]();
  await served;
});

Deno.test("a refusal that stops ends with 1 and says what to do; the packet is kept", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const served = answering(server, () => "ERR\n");
  const { code, err } = await send(
    server.remote,
    dir.queue,
    "a\n",
    ...ANSWER,
    ...["--on-refused", "stop"],
  );
  assert.equal(code, 1, err);
  assert.match(err, /the server refused packet 1: "ERR"\. It is still the first in the queue/);
  assert.equal(await packetsIn(dir.queue), 1);
  await server[Symbol.asyncDispose]();
  await served;
});

Deno.test("status names what confirms, also while the sender runs", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  await using _sender = await Sender.open(dir.queue, server.remote, {
    confirm: { framing: "lines", accepted: "OK" },
  });
  await until("status says so", async () => {
    const { out } = await runHere(["status", "-q", dir.queue]);
    return /^ *confirmed +by the server's answers$/m.test(out);
  });
  const { out } = await runHere(["status", "--json", "-q", dir.queue]);
  assert.equal(JSON.parse(out).sender.confirmedBy, "answer");
});

Deno.test("answers in another order, by their keys", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const waiting: string[] = [];
  const served = answering(server, (line) => {
    waiting.unshift(`OK ${line}\n`);
    return waiting.length === 3 ? waiting.join("") : "";
  });
  const { code, err } = await send(
    server.remote,
    dir.queue,
    "1\n2\n3\n",
    ...["--confirm", "answer", "--accepted", "/^OK (?<key>.+)/", "--packet-key", "/(?<key>.+)/"],
    ...["--max-unanswered", "3"],
  );
  assert.equal(code, 0, err);
  await server[Symbol.asyncDispose]();
  await served;
});

Deno.test("flags that contradict each other are wrong usage, in flags", async (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [["--confirm", "answer"], /--confirm answer needs --accepted/],
    [["--accepted", "OK"], /--accepted needs --confirm answer/],
    [["--answer-timeout", "1s"], /--answer-timeout needs --confirm answer/],
    [[...ANSWER, "--hold", "1s"], /--hold means nothing where answers confirm/],
    [[...ANSWER, "--on-peer-fin", "confirm"], /--on-peer-fin must be reconnect where/],
    [[...ANSWER, "--answer-framing", "chunks"], /--answer-framing must be one that marks where/],
    [
      [...ANSWER, "--refused", "/(?<key>.)/"],
      /--refused has .* key: --packet-key has to say which/,
    ],
    [
      ["--session-expect", "OK", "--session-framing", "chunks"],
      /--session-framing must be one that marks where an answer ends/,
    ],
    [[...ANSWER, "--max-unanswered", "0"], /--max-unanswered.* from 1 to 10,000/],
    [[...ANSWER, "--packet-key", "x"], /must be a \/REGEXP\/ with a group named key/],
    [[...ANSWER, "--packet-key", "/x/"], /--packet-key must have a group named key/],
    [[...ANSWER, "--packet-key", "/(?<key>x)/"], /--accepted must have a group named key/],
  ];
  for (const [options, words] of cases) {
    await t.step(options.join(" "), async () => {
      using dir = new TempDir();
      const { code, err } = await send("tcp://127.0.0.1:1", dir.queue, "", ...options);
      assert.equal(code, 2, err);
      assert.match(err, words);
    });
  }
});

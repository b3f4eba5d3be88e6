/**
 * The life of a container: told to stop as process number 1, a log that nobody can
 * write any more, as much memory as it was given.
 */

import assert from "node:assert/strict";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import { testUnless } from "../kernel/helpers.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { DEBIAN } from "./layouts.ts";
import { limitObstacle, MemoryLimit } from "./memory_limit.ts";
import { CODE, Place, placeObstacle } from "./place.ts";

const QUEUE = "/queue/outbox.db";
const MIB = 2 ** 20;
const obstacle = await placeObstacle();

/** What a container's entry point is in front of the command's own arguments. */
const RUN = [
  ...["run", "--quiet", "--no-prompt", "--cached-only", "--allow-net"],
  ...["--allow-read=/queue", "--allow-write=/queue", `--allow-ffi=${DEBIAN.granted}`],
  `${CODE}/src/cli/main.ts`,
];
const send = (remote: string, ...more: string[]) => [
  ...[...RUN, "send", remote, "--queue", QUEUE, "--hold", "100ms"],
  ...more,
];

testUnless(obstacle, "a log on a full disk: packets are delivered all the same", async () => {
  using place = new Place(DEBIAN);
  await using server = new ReadingServer();
  await using program = place.start(send(server.remote, "--verbose"), { stderr: "/dev/full" });
  assert.equal(await program.runWith("one\ntwo\n"), 0);
  assert.equal(server.text, "one\ntwo\n");
});

testUnless(obstacle, "a volume of somebody else: it says so, and takes nothing in", async () => {
  using place = new Place(DEBIAN);
  Deno.chownSync(place.volume, 0, 0);
  await using server = new ReadingServer();
  await using program = place.start(send(server.remote));
  assert.equal(await program.runWith("one\n"), 1, program.stderr);
  assert.match(program.stderr, /outbox\.db: it cannot be written \(EACCES\)/);
  assert.equal(server.text, "");
});

const unlimited = obstacle ?? limitObstacle();

testUnless(unlimited, "64 MiB are enough for a few packets", async () => {
  using place = new Place(DEBIAN);
  using limit = new MemoryLimit(64 * MIB);
  await using server = new ReadingServer();
  await using program = place.start(send(server.remote), { limit });
  assert.equal(await program.runWith("one\ntwo\n"), 0, program.stderr);
  assert.equal(server.text, "one\ntwo\n");
});

testUnless(
  unlimited,
  "96 MiB and a bounded queue: a producer that is too fast waits, and all is delivered",
  async () => {
    using place = new Place(DEBIAN);
    using limit = new MemoryLimit(96 * MIB);
    const line = `${"x".repeat(99)}\n`;
    const nobody = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
    const bounds = ["--max-bytes", "4MiB", "--deliver-timeout", "10ms"];
    const most = Math.floor(4 * MIB / line.length);
    {
      await using program = place.start(send(nobody, ...bounds), { limit });
      // It is told to stop in the middle: the pipe is then broken.
      const writing = program.write(line.repeat(300_000)).catch(() => {});
      await program.says(/the producer has to wait/);
      using inspector = await QueueInspector.open(`${place.volume}/outbox.db`);
      await until("a full queue", async () => (await inspector.counts()).packets === most);
      await program.signal("SIGTERM");
      await program.ended();
      await writing;
      assert.match(program.stderr, new RegExp(`${most.toLocaleString("en-US")} packets kept`));
    }
    await using server = new ReadingServer();
    await using program = place.start(send(server.remote, ...bounds), { limit });
    assert.equal(await program.runWith(""), 0, program.stderr);
    assert.equal(server.bytes.length, most * line.length);
    assert.equal(limit.kills, 0);
  },
);

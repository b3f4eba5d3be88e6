/**
 * TCP_INFO as older kernels have it, without the send window. The cut cable is in
 * tests/sender/cable.test.ts.
 */

import assert from "node:assert/strict";
import { LIBC, sendPermissions } from "../cli/helpers.ts";
import { RunningProgram } from "../support/running_program.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { testUnless } from "./helpers.ts";
import { OLDER_KERNEL, olderKernelObstacle } from "./older_kernel.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
const obstacle = await olderKernelObstacle();

function start(permissions: readonly string[], ...args: string[]): RunningProgram {
  const [command = "", ...first] = OLDER_KERNEL;
  const child = new Deno.Command(command, {
    args: [...first, Deno.execPath(), "run", "--quiet", ...permissions, MAIN, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  return new RunningProgram(child);
}

testUnless(obstacle, "an older TCP_INFO: there is no send window to be shown", async () => {
  await using server = new ReadingServer();
  const net = `--allow-net=${server.remote.replace("tcp://", "")}`;
  const probe = ["probe", server.remote, "--json", "--seconds", "1"];
  await using program = start([net, `--allow-ffi=${LIBC}`], ...probe);
  assert.equal(await program.runWith(""), 0, program.stderr);
  const { looks: [look] } = JSON.parse(program.stdout);
  assert.ok(look.rttMs > 0, program.stdout);
  assert.equal(look.windowBytes, undefined);
});

testUnless(
  obstacle,
  "an older TCP_INFO: a server that does not read is not dead, and gets all once it does",
  async () => {
    using dir = new TempDir();
    await using server = new ScriptedServer().start();
    await using program = start(
      sendPermissions(server.remote, dir.queue),
      ...["send", server.remote, "--queue", dir.queue, "--hold", "100ms"],
      ...["--max-in-flight", "16MiB", "--stall-timeout", "500ms"],
    );
    const lines = `${"x".repeat(4095)}\n`.repeat(2000);
    const ended = program.runWith(lines);
    const connection = await server.accept();
    await program.says(/peer stalled: its kernel answers/);
    let received = 0;
    await connection.readToEnd((text) => received += text.length);
    assert.equal(await ended, 0, program.stderr);
    assert.equal(received, lines.length);
    assert.doesNotMatch(program.stderr, /path dead|connection given up/);
  },
);

/** A sender whose files are taken away, with the documented permissions. */
import assert from "node:assert/strict";
import { until } from "../support/until.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { Sendq } from "./helpers.ts";

Deno.test("send: its lock file is removed: it stops, keeps the packets, and exits 1", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  await using send = Sendq.send(remote, dir.queue, "--follow");
  await send.write("kept\n");
  await until("the packet is stored", () => send.stderr.includes("cannot connect"));
  Deno.removeSync(`${dir.queue}.lock`);
  assert.equal(await send.ended(), 1, send.stderr);
  assert.match(send.stderr, /error Queue .*: its lock file \S+ was removed while its sender ran\./);
  assert.match(send.stderr, /stopped: 1 packet kept in /);
  await using server = new ReadingServer();
  await using again = Sendq.send(server.remote, dir.queue, "--input", "none", "--hold", "200ms");
  await until("the packet", () => server.text === "kept\n");
  again.child.kill("SIGTERM");
  assert.equal(await again.ended(), 0, again.stderr);
});

Deno.test("send: its queue is removed: it delivers what it has, and exits 1", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  await using send = Sendq.send(remote, dir.queue, "--follow", "--hold", "200ms");
  await send.write("nowhere else\n");
  await until("the packet is stored", () => send.stderr.includes("cannot connect"));
  for (const end of ["", "-wal", "-shm"]) Deno.removeSync(dir.queue + end);
  await until("that is noticed", () => /its file was removed or moved away/.test(send.stderr));
  await using server = new ReadingServer({ port });
  assert.equal(await send.ended(), 1, send.stderr);
  assert.equal(server.text, "nowhere else\n");
});

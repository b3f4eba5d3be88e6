/** The commands with a server on a Unix socket, with the permissions that their help names. */
import assert from "node:assert/strict";
import { ScriptedServer } from "../support/scripted_server.ts";
import { UnixServerProcess } from "../support/unix_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { LIBC, runWith, sendPermissions, Sendq } from "./helpers.ts";

Deno.test("send: to a Unix socket; what its program has read is confirmed, and status says so", async () => {
  using dir = new TempDir();
  const path = dir.file("s.sock");
  const remote = `unix:${path}`;
  await using server = await new UnixServerProcess(path, 0).listening();
  await using sending = Sendq.send(remote, dir.queue);
  await sending.write("one\ntwo\n");
  await sending.says(/connected to unix:.*s\.sock from unnamed/);
  await using status = Sendq.onQueue("status", dir.queue);
  assert.equal(await status.ended(), 0, status.stderr);
  assert.match(status.stdout, /unix:.*s\.sock/);
  assert.match(status.stdout, /confirmed +by the server's program, that has read it/);
  await sending.endInput();
  await server.readOn(Infinity);
  assert.equal(await sending.ended(), 0, sending.stderr);
  await until("both were told", () => server.text === "one\ntwo\n");
});

Deno.test("send: permissions for a Unix socket that are missing are named all at once, each alone", async () => {
  using dir = new TempDir();
  const remote = `unix:${dir.file("s.sock")}`;
  const all = sendPermissions(remote, dir.queue);
  assert.equal(all[0], `--allow-net=${remote}`);
  assert.ok(all.slice(1, 3).every((flag) => flag.endsWith(`,${dir.file("s.sock")}`)));
  const args = ["send", remote, "--queue", dir.queue];
  const none = await runWith([], args);
  assert.equal(none.code, 77);
  assert.deepEqual(flagsIn(none.err), all);
  for (const missing of all) {
    const { code, err } = await runWith(all.filter((flag) => flag !== missing), args);
    assert.equal(code, 77);
    assert.deepEqual(flagsIn(err), [missing]);
  }
});

function flagsIn(text: string): string[] {
  return text.split(/\s+/).filter((word) => word.startsWith("--allow-"))
    .map((flag) => flag.startsWith("--allow-ffi=") ? `--allow-ffi=${LIBC}` : flag);
}

Deno.test("relay: from TCP clients to a Unix socket", async () => {
  using dir = new TempDir();
  const path = dir.file("s.sock");
  const listen = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  await using server = await new UnixServerProcess(path).listening();
  await using relay = Sendq.relay(listen, `unix:${path}`, dir.queue);
  await relay.says(/listening|accepting|relaying/);
  const port = Number(listen.replace(/.*:/, ""));
  const client = await Deno.connect({ hostname: "127.0.0.1", port });
  await client.write(new TextEncoder().encode("one\ntwo\n"));
  await until("both were told", () => server.text === "one\ntwo\n");
  client.close();
  relay.child.kill("SIGTERM");
  assert.equal(await relay.ended(), 0, relay.stderr);
});

Deno.test("run --check: a route to a Unix socket, and its smallest permissions", async () => {
  using dir = new TempDir();
  const file = dir.file("route.json");
  Deno.writeTextFileSync(file, JSON.stringify({ queue: dir.queue, remote: "unix:/run/app.sock" }));
  const reading = [`--allow-read=${dir.path}`, `--allow-write=${dir.path}`];
  const { out } = await runWith(reading, ["run", "--check", file]);
  assert.match(out, /--allow-net=unix:\/run\/app\.sock/);
  assert.match(out, /--allow-read=\S*\/run\/app\.sock/);
  assert.match(out, /--allow-write=\S*\/run\/app\.sock/);
  Deno.writeTextFileSync(file, JSON.stringify({ queue: dir.queue, remote: "unix:app.sock" }));
  const wrong = await runWith(reading, ["run", "--check", file]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.out + wrong.err, /"app\.sock" is not the whole path of a socket's file/);
});

Deno.test("probe: a Unix socket, who listens there, and why nobody does", async () => {
  using dir = new TempDir();
  const path = dir.file("s.sock");
  const remote = `unix:${path}`;
  const permissions = probePermissions(path);
  const missing = await runWith(permissions, ["probe", remote]);
  assert.equal(missing.code, 1);
  assert.match(missing.out, /^verdict +cannot connect: there is no .*s\.sock: its server is not/);

  await using server = await new UnixServerProcess(path).listening();
  const text = await runWith(permissions, ["probe", remote, "--seconds", "0.1"]);
  assert.equal(text.code, 0, text.err);
  const [connected = "", who = "", look = "", verdict = ""] = text.out.split("\n");
  assert.match(connected, /^connected +to unix:.*s\.sock in [\d.]+ms$/);
  assert.match(who, /^server +process \d+ of user \d+ listens there$/);
  assert.match(look, /^0\.1s +healthy$/);
  assert.match(verdict, /^verdict +healthy: a program listens there; it was asked nothing$/);

  const json = await runWith(permissions, ["probe", remote, "--seconds", "0.1", "--json"]);
  const printed = JSON.parse(json.out);
  assert.equal(printed.remote, remote);
  assert.equal(printed.peer.userId, Deno.uid());
  assert.deepEqual([printed.verdict, printed.looks.length], ["healthy", 1]);
  assert.equal(server.text, "");
});

Deno.test("probe: a server that ends while it is looked at has closed in order", async () => {
  using dir = new TempDir();
  const path = dir.file("s.sock");
  const server = await new UnixServerProcess(path).listening();
  await using command = new Sendq(probePermissions(path), ["probe", `unix:${path}`]);
  await until("a first look", () => / healthy$/m.test(command.stdout));
  await server.kill();
  assert.equal(await command.ended(), 1, command.stderr);
  assert.match(
    command.stdout,
    /^verdict +peer closed: the server ended the connection by itself$/m,
  );
  await server[Symbol.asyncDispose]();
});

function probePermissions(path: string): string[] {
  return [
    `--allow-net=unix:${path}`,
    `--allow-read=${path}`,
    `--allow-write=${path}`,
    `--allow-ffi=${LIBC}`,
  ];
}

Deno.test("send: a socket option that means nothing over a Unix socket is a wrong argument", async () => {
  using dir = new TempDir();
  const remote = `unix:${dir.file("s.sock")}`;
  const { code, err } = await runWith(sendPermissions(remote, dir.queue), [
    ...["send", remote, "-q", dir.queue, "--keepalive-idle", "5s"],
  ]);
  assert.equal(code, 2, err);
  assert.match(err, /means nothing for a unix: remote: leave it out/);
});

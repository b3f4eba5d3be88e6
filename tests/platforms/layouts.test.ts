/**
 * sendq as distributions and images lay it out, and as narrow as they can make
 * it. The layouts are made here, of this machine's C library: no image is fetched.
 */

import assert from "node:assert/strict";
import { testUnless } from "../kernel/helpers.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { DEBIAN, LAYOUTS } from "./layouts.ts";
import { Place, placeObstacle, UID } from "./place.ts";

const QUEUE = "/queue/outbox.db";
const LINES = "one\ntwo\n";
const obstacle = await placeObstacle();

/** README's flags, without the one for the C library. */
function permissions(remote: string): string[] {
  const files = `${QUEUE},${QUEUE}.lock`;
  return [
    `--allow-net=${remote.replace("tcp://", "")}`,
    `--allow-read=${files}`,
    `--allow-write=${files}`,
  ];
}

for (const layout of LAYOUTS) {
  const how = layout.granted === undefined
    ? "it says where to look for the C library, and delivers with that path"
    : "the flag that it asks for is README's, and delivers";
  testUnless(obstacle, `a place laid out like ${layout.name}: ${how}`, async () => {
    using place = new Place(layout);
    await using server = new ReadingServer();
    // By name, so that the layout's own files have to do for looking it up.
    const remote = server.remote.replace("127.0.0.1", "localhost");
    const send = (ffi: readonly string[], ...more: string[]) =>
      place.sendq([...permissions(remote), ...ffi], [
        ...["send", remote, "--queue", QUEUE, "--hold", "100ms"],
        ...more,
      ], LINES);
    const refused = await send([]);
    assert.equal(refused.code, 77, refused.err);
    const [flag = ""] = /--allow-ffi=\S+/.exec(refused.err) ?? [];
    const pasted = await send([flag]);
    if (layout.granted !== undefined) {
      assert.ok(flag.slice("--allow-ffi=".length).split(",").includes(layout.granted), flag);
      assert.equal(pasted.code, 0, pasted.err);
    } else {
      // No flag could know the path. Pasted as it is it leads on to the one that does.
      assert.equal(pasted.code, 77, pasted.err);
      assert.match(pasted.err, /--allow-ffi=PATH\..* ldd "\$\(command -v deno\)"/);
      assert.equal(server.text, "");
      const path = `${layout.glibc}/libc.so.6`;
      const { code, err } = await send([`--allow-ffi=${path}`], "--libc", path);
      assert.equal(code, 0, err);
    }
    assert.equal(server.text, LINES);
  });
}

testUnless(obstacle, "a place is as narrow as the tests in it say", async () => {
  using place = new Place(DEBIAN);
  const code = `
    const status = Deno.readTextFileSync("/proc/self/status");
    const field = (name) => new RegExp("^" + name + ":\\\\s*(.*)$", "m").exec(status)?.[1];
    const why = (act) => { try { act(); return "done"; } catch (error) { return String(error); } };
    console.log(JSON.stringify({
      pid: Deno.pid,
      uid: Deno.uid(),
      rights: [field("CapPrm"), field("CapEff"), field("CapAmb")].map((mask) => parseInt(mask, 16)),
      noNewPrivileges: field("NoNewPrivs"),
      processes: [...Deno.readDirSync("/proc")].filter(({ name }) => /^\\d+$/.test(name)).length,
      terminals: [Deno.stdin, Deno.stdout, Deno.stderr].map((stream) => stream.isTerminal()),
      shells: ["/bin/sh", "/bin/bash"].map((path) => why(() => Deno.statSync(path))),
      root: why(() => Deno.writeTextFileSync("/file", "")),
      temporary: why(() => Deno.writeTextFileSync("/tmp/file", "")),
      volume: why(() => Deno.writeTextFileSync("/queue/file", "")),
    }));`;
  await using program = place.start(["eval", "--no-lock", code]);
  assert.equal(await program.runWith(""), 0, program.stderr);
  const told = JSON.parse(program.stdout);
  for (const path of ["root", "temporary"]) assert.match(told[path], /Read-only file system/);
  for (const shell of told.shells) assert.match(shell, /NotFound/);
  assert.deepEqual({ ...told, root: "", temporary: "", shells: [] }, {
    pid: 1,
    uid: UID,
    rights: [0, 0, 0],
    noNewPrivileges: "1",
    processes: 1,
    terminals: [false, false, false],
    shells: [],
    root: "",
    temporary: "",
    volume: "done",
  });
});

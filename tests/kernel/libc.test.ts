import assert from "node:assert/strict";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { grantedLibc, listen, noChildren, testUnless } from "./helpers.ts";

interface ChildResult {
  readonly state?: number;
  readonly bytesAcked?: number;
  readonly name?: string;
  readonly notCapable?: boolean;
  readonly message?: string;
}

/** Dials in a child that has exactly these permission flags. */
async function dialInChild(flags: readonly string[], port: number): Promise<ChildResult> {
  const script = new URL("./dialer_child.ts", import.meta.url).href;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--no-lock", ...flags, script, String(port)],
    stdin: "null",
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.notEqual(text, "", new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

Deno.test("libc: candidates for each machine, one make of C library only", () => {
  const of = (os: string, arch: string, target: string) =>
    libcCandidates({ os, arch, target }).map(({ path }) => path);
  const glibc = of("linux", "x86_64", "x86_64-unknown-linux-gnu");
  assert.equal(glibc[0], "/lib/x86_64-linux-gnu/libc.so.6");
  assert.ok(glibc.includes("/lib64/libc.so.6"));
  assert.ok(glibc.every((path) => !path.includes("musl")));
  assert.equal(
    of("linux", "aarch64", "aarch64-unknown-linux-gnu")[0],
    "/lib/aarch64-linux-gnu/libc.so.6",
  );
  const musl = of("linux", "aarch64", "aarch64-unknown-linux-musl");
  assert.equal(musl[0], "/lib/ld-musl-aarch64.so.1");
  assert.ok(musl.every((path) => !path.endsWith("libc.so.6")));
  assert.deepEqual(of("darwin", "aarch64", "aarch64-apple-darwin"), []);
  assert.deepEqual(of("linux", "riscv64", "riscv64gc-unknown-linux-gnu"), []);
});

testUnless(
  noChildren(),
  "libc: a path grant and the server's address are all that dialing needs",
  async () => {
    using peer = listen();
    const accepted = peer.accept();
    const result = await dialInChild([
      `--allow-net=127.0.0.1:${peer.port}`,
      `--allow-ffi=${grantedLibc()}`,
    ], peer.port);
    assert.deepEqual(result, { state: 1, bytesAcked: 1 });
    (await accepted).close();
  },
);

testUnless(
  noChildren(),
  "libc: a missing grant is Deno's own error, with the flag to add",
  async () => {
    const net = "--allow-net=127.0.0.1";
    const without = await dialInChild([net], 9);
    assert.equal(without.notCapable, true);
    assert.match(
      without.message ?? "",
      new RegExp(`run again with --allow-ffi=${libcCandidates()[0]?.path}`),
    );
    // Where looking is permitted, the flag is the one that fits this machine.
    const looked = await dialInChild([net, "--allow-read=/"], 9);
    assert.match(looked.message ?? "", new RegExp(`with --allow-ffi=${grantedLibc()}\\.$`));
  },
);

testUnless(
  noChildren(),
  "libc: a grant of a path that this machine does not have names it",
  async () => {
    const absent = "/usr/local/lib/libc.so.6";
    const result = await dialInChild([`--allow-ffi=${absent}`], 9);
    assert.equal(result.notCapable, true);
    assert.match(result.message ?? "", new RegExp(`not loadable: ${absent}`));
  },
);

testUnless(
  noChildren(),
  "libc: importing the kernel layer and making no dialer asks for nothing",
  async () => {
    const module = new URL("../../src/kernel/dialer.ts", import.meta.url).href;
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--no-lock", module],
      stdin: "null",
    }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  },
);

testUnless(noChildren(), "dialer: a missing --allow-net is passed on as it is", async () => {
  const result = await dialInChild([`--allow-ffi=${grantedLibc()}`], 9);
  assert.equal(result.notCapable, true);
  assert.match(result.message ?? "", /net access to "127\.0\.0\.1:9"/);
});

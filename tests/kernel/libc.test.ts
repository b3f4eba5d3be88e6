import assert from "node:assert/strict";
import { dirname } from "node:path";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { grantedLibc, listen, noChildren, testUnless } from "./helpers.ts";
import { namespaceObstacle } from "./host.ts";

interface ChildResult {
  readonly state?: number;
  readonly bytesAcked?: number;
  readonly name?: string;
  readonly notCapable?: boolean;
  readonly message?: string;
}

const SCRIPT = new URL("./dialer_child.ts", import.meta.url).href;

function denoArgs(flags: readonly string[], port: number, libc?: string): string[] {
  const args = libc === undefined ? [String(port)] : [String(port), libc];
  return ["run", "--no-prompt", "--no-lock", ...flags, SCRIPT, ...args];
}

async function resultOf(command: string, args: readonly string[]): Promise<ChildResult> {
  const { stdout, stderr } = await new Deno.Command(command, { args: [...args], stdin: "null" })
    .output();
  const text = new TextDecoder().decode(stdout);
  assert.notEqual(text, "", new TextDecoder().decode(stderr));
  return JSON.parse(text);
}

/** Dials in a child that has exactly these permission flags. */
function dialInChild(
  flags: readonly string[],
  port: number,
  libc?: string,
): Promise<ChildResult> {
  return resultOf(Deno.execPath(), denoArgs(flags, port, libc));
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
    // Nobody may look, so the flag has a path for each distribution.
    const flag = /run again with --allow-ffi=(\S+)\.$/.exec(without.message ?? "")?.[1] ?? "";
    const paths = libcCandidates().filter(({ isAlias }) => !isAlias).map(({ path }) => path);
    assert.deepEqual(flag.split(","), paths);
    // The flag does, pasted as it is, unless this machine is of another kind.
    if (paths.includes(grantedLibc() ?? "")) {
      using peer = listen();
      const accepted = peer.accept();
      const pasted = await dialInChild([net, `--allow-ffi=${flag}`], peer.port);
      assert.deepEqual(pasted, { state: 1, bytesAcked: 1 });
      (await accepted).close();
    }
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

testUnless(noChildren(), "libc: a path of the user's is the only one that is tried", async () => {
  using peer = listen();
  const net = `--allow-net=127.0.0.1:${peer.port}`;
  const path = grantedLibc() ?? "";
  const accepted = peer.accept();
  const given = await dialInChild([net, `--allow-ffi=${path}`], peer.port, path);
  assert.deepEqual(given, { state: 1, bytesAcked: 1 });
  (await accepted).close();

  const ungranted = await dialInChild([net, `--allow-ffi=${path}`], 9, "/nix/store/x/libc.so.6");
  assert.equal(ungranted.notCapable, true);
  assert.match(ungranted.message ?? "", /--allow-ffi=\/nix\/store\/x\/libc\.so\.6\.$/);
  const absent = await dialInChild([net, "--allow-ffi"], 9, "/nix/store/x/libc.so.6");
  assert.equal(absent.name, "RangeError");
  assert.match(
    absent.message ?? "",
    /^libc = \/nix\/store\/x\/libc\.so\.6 cannot be used: .* ldd /,
  );
});

testUnless(
  noChildren() ?? (Deno.build.target.includes("musl") ? "needs a Deno for glibc" : undefined),
  "libc: musl's is refused in a process that has glibc, unloaded",
  async () => {
    for (const path of ["/lib/ld-musl-x86_64.so.1", "/lib/libc.musl-x86_64.so.1"]) {
      const { name, message } = await dialInChild(["--allow-net", "--allow-ffi"], 9, path);
      assert.equal(name, "RangeError");
      assert.match(message ?? "", /it is musl, and this Deno is built for glibc/);
    }
  },
);

/**
 * A folder that stands for the C library's own: links to all of it but the library,
 * which lies at `nix/libc.so.6` alone, as on NixOS.
 */
async function moveLibc(dir: string, folder: string): Promise<void> {
  for (const name of ["original", "farm", "nix"]) await Deno.mkdir(`${dir}/${name}`);
  for await (const { name } of Deno.readDir(folder)) {
    const place = name === "libc.so.6" ? "nix" : "farm";
    await Deno.symlink(`${dir}/original/${name}`, `${dir}/${place}/${name}`);
  }
}

/** Lines of shell that put it in place, in a mount namespace, and start what follows. */
const IN_PLACE = [
  "set -e",
  'dir="$1"; folder="$2"; kind="$3"; shift 3',
  'mount --bind "$folder" "$dir/original"',
  // What the image denoland/deno:alpine has.
  'if [ "$kind" = alpine ]; then mount -t tmpfs tmpfs /usr/local/lib; ' +
  "mkdir /usr/local/lib/glibc; " +
  'ln -s "$dir/original/libc.so.6" /usr/local/lib/glibc/; fi',
  'export LD_LIBRARY_PATH="$dir/nix"',
  'mount --bind "$dir/farm" "$folder"',
  'exec "$@"',
].join("\n");

testUnless(
  await namespaceObstacle() ??
    (Deno.build.target.includes("musl") ? "needs a Deno for glibc" : undefined),
  "libc: at none of the known paths, as on NixOS, and at that of the Alpine image",
  async () => {
    using peer = listen();
    const net = `--allow-net=127.0.0.1:${peer.port}`;
    const dir = await Deno.makeTempDir();
    const folder = dirname(await Deno.realPath(grantedLibc() ?? ""));
    const inPlace = (kind: "nixos" | "alpine", flags: string[], libc?: string) => {
      const deno = [Deno.execPath(), ...denoArgs([net, ...flags], peer.port, libc)];
      return resultOf("unshare", [
        "--mount",
        "sh",
        "-c",
        IN_PLACE,
        "sh",
        dir,
        folder,
        kind,
        ...deno,
      ]);
    };
    const connects = async (kind: "nixos" | "alpine", flags: string[], libc?: string) => {
      const accepted = peer.accept();
      const result = await inPlace(kind, flags, libc);
      assert.deepEqual(result, { state: 1, bytesAcked: 1 }, result.message);
      (await accepted).close();
    };
    try {
      await moveLibc(dir, folder);
      await connects("nixos", ["--allow-ffi"]);
      const path = `${dir}/nix/libc.so.6`;
      await connects("nixos", [`--allow-ffi=${path}`], path);
      await connects("alpine", ["--allow-ffi=/usr/local/lib/glibc/libc.so.6"]);

      const lost = await inPlace("nixos", ["--allow-read"]);
      assert.equal(lost.notCapable, true);
      assert.match(lost.message ?? "", /--allow-ffi=PATH\. None of the known paths exists.* ldd /);
      const alpine = await inPlace("alpine", ["--allow-read"]);
      const flag = "--allow-ffi=/usr/local/lib/glibc/libc.so.6.";
      assert.ok(alpine.message?.endsWith(flag), alpine.message);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
);

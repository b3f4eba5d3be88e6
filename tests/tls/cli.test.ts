/** The command over TLS, with the permissions that its help names and no others. */
import assert from "node:assert/strict";
import { LIBC, runHere, runWith, sendPermissions, Sendq } from "../cli/helpers.ts";
import { lines } from "../support/packets.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { grantedLibc, testUnless } from "../kernel/helpers.ts";
import { libsslCandidates } from "../../src/kernel/library_paths.ts";
import { fileOf, noLibssl, pem } from "./helpers.ts";
import { noOpenssl, OpensslServer } from "./openssl.ts";
import { DecryptingServer } from "./servers.ts";

const noKernel = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

const CLIENT_FLAGS = [
  ...["--tls-ca", fileOf("authority.pem"), "--tls-cert", fileOf("client.pem")],
  ...["--tls-key", fileOf("client.encrypted.key")],
];
const WANTS_CLIENT = ["-Verify", "1", "-CAfile", fileOf("authority.pem"), "-verify_return_error"];

/** The permissions of `send`, and the right to read these files. */
function permissionsFor(remote: string, queue: string, files: readonly string[]): string[] {
  return sendPermissions(remote, queue).map((flag) =>
    flag.startsWith("--allow-read=") ? [flag, ...files].join(",") : flag
  );
}

testUnless(
  noOpenssl(),
  "send over mutual TLS needs the files of TLS, and no other permission",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" }, WANTS_CLIENT);
    const remote = `tls://127.0.0.1:${server.port}`;
    const passphrase = dir.file("passphrase");
    await Deno.writeTextFile(passphrase, "secret\n");
    const args = [...CLIENT_FLAGS, "--tls-passphrase-file", passphrase];
    const files = args.filter((word) => word.startsWith("/"));
    const send = ["send", remote, "--queue", dir.queue, ...args];
    const refused = await runWith(sendPermissions(remote, dir.queue), send, lines(3));
    assert.equal(refused.code, 77, refused.err);
    assert.ok(refused.err.includes(`--allow-read=${files.join(",")}`), refused.err);
    const { code, err } = await runWith(permissionsFor(remote, dir.queue, files), send, lines(3));
    assert.equal(code, 0, err);
    assert.match(err, /done: 3 packets delivered/);
    await until("all is read", () => server.text === lines(3));
  },
);

testUnless(
  noOpenssl() ?? noLibssl(),
  "send --confirm reader needs OpenSSL's library by its path, and no other permission",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" });
    const remote = `tls://127.0.0.1:${server.port}`;
    const authority = fileOf("authority.pem");
    const send = ["send", remote, "--queue", dir.queue, "--tls-ca", authority];
    const reader = [...send, "--confirm", "reader"];
    const granted = permissionsFor(remote, dir.queue, [authority]);
    const refused = await runWith(granted, reader, lines(3));
    assert.equal(refused.code, 77, refused.err);
    // Without the right to look, every path is named that it may have.
    const paths = libsslCandidates().filter(({ isAlias }) => !isAlias).map(({ path }) => path);
    assert.ok(refused.err.includes(`missing: --allow-ffi=${paths.join(",")}\n`), refused.err);
    const withLibssl = granted.map((flag) =>
      flag.startsWith("--allow-ffi=") ? [flag, ...paths].join(",") : flag
    );
    const { code, err } = await runWith(withLibssl, reader, lines(3));
    assert.equal(code, 0, err);
    assert.match(err, /done: 3 packets delivered/);
    await until("all is read", () => server.text === lines(3));

    const nowhere = [...reader, "--libssl", "/nix/store/x/libssl.so.3"];
    const lacking = await runWith(granted, nowhere);
    assert.equal(lacking.code, 77, lacking.err);
    assert.ok(lacking.err.endsWith(" --allow-ffi=/nix/store/x/libssl.so.3\n"), lacking.err);
    const absent = await runWith(
      granted.map((flag) =>
        flag.startsWith("--allow-ffi=") ? `${flag},/nix/store/x/libssl.so.3` : flag
      ),
      nowhere,
    );
    assert.equal(absent.code, 2, absent.err);
    assert.match(absent.err, /libssl = \/nix\/store\/x\/libssl\.so\.3 cannot be used/);
    const unused = await runWith(granted, [...send, "--libssl", "/x"]);
    assert.equal(unused.code, 2, unused.err);
    assert.match(unused.err, /--libssl is used by --confirm "reader" over tls:\/\/ only/);
  },
);

testUnless(
  noOpenssl(),
  "files are read anew for each connection, so that certificates can be renewed",
  async () => {
    using dir = new TempDir();
    await using server = await OpensslServer.start({ certificate: "server" }, WANTS_CLIENT);
    const remote = `tls://127.0.0.1:${server.port}`;
    const [cert, key] = [dir.file("client.pem"), dir.file("client.key")];
    await Deno.writeTextFile(cert, pem("expired.pem"));
    await Deno.writeTextFile(key, pem("expired.key"));
    const authority = fileOf("authority.pem");
    await using command = new Sendq(permissionsFor(remote, dir.queue, [cert, key, authority]), [
      ...["send", remote, "--queue", dir.queue, "--tls-ca", authority],
      ...["--tls-cert", cert, "--tls-key", key],
    ]);
    await command.write(lines(2));
    await command.endInput();
    await command.says(/our certificate has expired, says the server: tls\.cert has to be renewed/);
    await Deno.writeTextFile(key, pem("client.key"));
    await Deno.writeTextFile(cert, pem("client.pem"));
    assert.equal(await command.ended(), 0, command.stderr);
    await until("all is read", () => server.text === lines(2));
  },
);

testUnless(
  noKernel,
  "probe shows what TLS has agreed upon, the chain and the days left",
  async () => {
    await using server = new DecryptingServer();
    const remote = `tls://127.0.0.1:${server.port}`;
    const args = ["probe", remote, "--tls-ca", fileOf("authority.pem"), "--seconds", "0.1"];
    const text = await runWith([
      `--allow-net=127.0.0.1:${server.port}`,
      `--allow-ffi=${LIBC}`,
      `--allow-read=${fileOf("authority.pem")}`,
    ], args);
    assert.equal(text.code, 0, text.err);
    assert.match(text.out, /^tls +TLSv1\.3, TLS_AES_256_GCM_SHA384$/m);
    assert.match(
      text.out,
      /^server +CN=localhost \(DNS:localhost, .*until 2126-01-01 \(\d{5} days left\), SHA-256 \w\w:/m,
    );
    assert.match(text.out, /^accepted +yes: a session ticket, or something else, came/m);
    assert.match(
      text.out,
      /^verdict +healthy: the server's kernel answers; its program agreed on TLS, and was asked nothing more$/m,
    );
    const { tls } = JSON.parse((await runHere([...args, "--json"])).out);
    assert.deepEqual([tls.version, tls.accepted, tls.chain[0].expiresAtMs], [
      "TLSv1.3",
      true,
      Date.UTC(2126, 0, 1),
    ]);
    await until("it was sent nothing", () => server.ends.length === 2);
    assert.equal(server.text, "");
  },
);

testUnless(
  noKernel,
  "probe says of a server without TLS that the handshake came to nothing",
  async () => {
    await using server = new ReadingServer();
    const remote = server.remote.replace("tcp://", "tls://");
    const { code, out } = await runHere(["probe", remote, "--tls-handshake-timeout", "300ms"]);
    assert.equal(code, 1);
    assert.match(
      out,
      /^verdict +cannot connect: the TLS handshake was not over within 0\.3 s: is TLS spoken on this port\? \(ETIMEDOUT\)$/m,
    );
  },
);

testUnless(noKernel, "no environment variable switches the verification off", async () => {
  await using server = new DecryptingServer();
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", "--allow-net", "--allow-read", `--allow-ffi=${LIBC}`, "--allow-env"],
      new URL("../../src/cli/main.ts", import.meta.url).pathname,
      ...["probe", `tls://127.0.0.1:${server.port}`, "--tls-ca", fileOf("stranger.pem")],
    ],
    env: { NODE_TLS_REJECT_UNAUTHORIZED: "0" },
    stdin: "null",
    stderr: "null",
  }).output();
  assert.equal(code, 1);
  assert.match(new TextDecoder().decode(stdout), /UNABLE_TO_GET_ISSUER_CERT/);
});

Deno.test("wrong options of TLS are named by their flags, and show no secrets", async (t) => {
  using dir = new TempDir();
  const remote = `tls://127.0.0.1:${ScriptedServer.freePort()}`;
  const cases: [string[], RegExp][] = [
    [["--tls-ca", fileOf("authority.key")], /--tls-ca must be a certificate in PEM/],
    [["--tls-cert", fileOf("client.pem")], /--tls-cert needs --tls-key, the key/],
    [CLIENT_FLAGS, /--tls-key is encrypted and needs --tls-passphrase-file/],
    [["--tls-ca", dir.file("none")], /--tls-ca: .*none cannot be read: No such file/],
    [["--tls-fingerprint", "AB"], /--tls-fingerprint must be SHA-256 fingerprints of 64/],
    [
      ["--tls-min-version", "TLSv1.3", "--tls-max-version", "TLSv1.2"],
      /--tls-min-version must not be newer than --tls-max-version/,
    ],
    [["--tls-accept", "soon"], /--tls-accept .*Expected a duration/],
  ];
  for (const [args, expected] of cases) {
    for (const command of [["send", remote, "-q", dir.queue], ["probe", remote]]) {
      await t.step([command[0], ...args].join(" "), async () => {
        const { code, err } = await runHere([...command, ...args]);
        assert.equal(code, 2, err);
        assert.match(err, expected);
        assert.doesNotMatch(err, /BEGIN PRIVATE/);
      });
    }
  }
  for (
    const command of [["send", "tcp://127.0.0.1:4000", "-q", dir.queue], [
      "probe",
      "tcp://127.0.0.1:4000",
    ]]
  ) {
    const { code, err } = await runHere([...command, "--tls-server-name", "x"]);
    assert.equal(code, 2, err);
    assert.match(err, /remote that begins with tls:\/\//);
  }
  const listen = ["relay", "--listen", "tls://127.0.0.1:0", "--to", remote, "-q", dir.queue];
  assert.match((await runHere(listen)).err, /accepted without TLS/);
});

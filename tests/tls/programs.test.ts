/**
 * Servers as they stand in the field, killed in mid-stream.
 */

import assert from "node:assert/strict";
import { Sender } from "../../mod.ts";
import { grantedLibc, testUnless } from "../kernel/helpers.ts";
import { lines, packets } from "../support/packets.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { AUTHORITY, fileOf, heard, noLibssl } from "./helpers.ts";
import { isListening, lacks } from "./openssl.ts";

/** Where a program runs. */
interface Place {
  readonly dir: TempDir;
  readonly port: number;
  /** Where a proxy finds its server. */
  readonly backendPort: number;
}

/** A program that speaks TLS. */
interface Program {
  readonly name: string;
  /** Why it cannot run. */
  readonly obstacle: string | undefined;
  readonly command: string;
  /** Its arguments; writes what else it needs. */
  readonly prepare: (place: Place) => string[];
  /** What it has written; undefined: a proxy, whose server is asked. */
  readonly written?: (place: Place) => string;
  /** Whether it speaks TLS 1.3 and answers KeyUpdates, so that it is known what it has read. */
  readonly answers: boolean;
  /** It takes so long to start that it is started once, and not killed and started again. */
  readonly startsSlowly?: true;
}

const cert = fileOf("server.pem"), key = fileOf("server.key");

function textOf(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}

function rsyslog(driver: "gtls" | "ossl"): Program {
  return {
    name: `rsyslog with ${driver}`,
    answers: driver === "ossl",
    obstacle: lacks("rsyslogd", "-v") ?? lacksDriver(driver),
    command: "rsyslogd",
    prepare({ dir, port }) {
      Deno.writeTextFileSync(
        dir.file("rsyslog.conf"),
        `global(workDirectory="${dir.path}" DefaultNetstreamDriver="${driver}"
  DefaultNetstreamDriverCAFile="${fileOf("authority.pem")}"
  DefaultNetstreamDriverCertFile="${cert}" DefaultNetstreamDriverKeyFile="${key}")
module(load="imtcp" StreamDriver.Name="${driver}" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
template(name="raw" type="string" string="%rawmsg%\\n")
input(type="imtcp" address="127.0.0.1" port="${port}")
action(type="omfile" file="${dir.file("syslog")}" template="raw")
`,
      );
      return ["-n", "-f", dir.file("rsyslog.conf"), "-i", dir.file("rsyslog.pid")];
    },
    written: ({ dir }) => textOf(dir.file("syslog")),
  };
}

/** Which packages have brought what rsyslog loads. */
function lacksDriver(driver: string): string | undefined {
  for (const library of ["x86_64-linux-gnu", "aarch64-linux-gnu"]) {
    try {
      Deno.statSync(`/usr/lib/${library}/rsyslog/lmnsd_${driver}.so`);
      return undefined;
    } catch {
      continue;
    }
  }
  return `needs rsyslog's driver ${driver}`;
}

const NODE_SERVER = `
const fs = require("node:fs");
const [cert, key, port, out] = process.argv.slice(1);
require("node:tls").createServer(
  { cert: fs.readFileSync(cert), key: fs.readFileSync(key) },
  (socket) => {
    socket.on("data", (data) => fs.appendFileSync(out, data));
    socket.on("error", () => {});
  },
).listen(Number(port), "127.0.0.1");
`;

/** Java's own TLS, which answers each KeyUpdate at once, and pads. */
const JAVA_SERVER = `
import java.io.*;
import java.security.KeyStore;
import javax.net.ssl.*;

public class Server {
  public static void main(String[] arguments) throws Exception {
    char[] password = "secret".toCharArray();
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(new FileInputStream(arguments[0]), password);
    KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
    keys.init(store, password);
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(keys.getKeyManagers(), null, null);
    OutputStream out = new FileOutputStream(arguments[2]);
    SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory()
        .createServerSocket(Integer.parseInt(arguments[1]));
    while (true) {
      SSLSocket connection = (SSLSocket) listener.accept();
      new Thread(() -> {
        try {
          connection.getInputStream().transferTo(out);
        } catch (IOException gone) {
          // It will come again.
        }
      }).start();
    }
  }
}
`;

const PROGRAMS: readonly Program[] = [
  {
    name: "nginx stream",
    answers: true,
    obstacle: lacks("nginx", "-v"),
    command: "nginx",
    prepare({ dir, port, backendPort }) {
      const module = "/usr/lib/nginx/modules/ngx_stream_module.so";
      Deno.writeTextFileSync(
        dir.file("nginx.conf"),
        `${textOf(module) === "" ? "" : `load_module ${module};`}
daemon off; master_process off; pid ${dir.file("nginx.pid")}; error_log /dev/null;
events {}
stream { server {
  ssl_protocols TLSv1.2 TLSv1.3;
  listen 127.0.0.1:${port} ssl; ssl_certificate ${cert}; ssl_certificate_key ${key};
  proxy_pass 127.0.0.1:${backendPort};
} }
`,
      );
      return ["-c", dir.file("nginx.conf"), "-e", "/dev/null"];
    },
  },
  {
    name: "stunnel",
    answers: true,
    obstacle: lacks("stunnel", "-version"),
    command: "stunnel",
    prepare({ dir, port, backendPort }) {
      Deno.writeTextFileSync(
        dir.file("stunnel.conf"),
        `foreground = yes
pid =
[relay]
accept = 127.0.0.1:${port}
connect = 127.0.0.1:${backendPort}
cert = ${cert}
key = ${key}
`,
      );
      return [dir.file("stunnel.conf")];
    },
  },
  rsyslog("gtls"),
  rsyslog("ossl"),
  {
    name: "node",
    answers: true,
    obstacle: lacks("node", "--version"),
    command: "node",
    prepare: ({ dir, port }) => ["-e", NODE_SERVER, cert, key, String(port), dir.file("out")],
    written: ({ dir }) => textOf(dir.file("out")),
  },
  {
    name: "java",
    answers: true,
    startsSlowly: true,
    obstacle: lacks("javac", "-version") ?? lacks("openssl", "version"),
    command: "java",
    prepare({ dir, port }) {
      const [store, source] = [dir.file("server.p12"), dir.file("Server.java")];
      const { success } = new Deno.Command("openssl", {
        args: [
          ...["pkcs12", "-export", "-in", cert, "-inkey", key],
          ...["-passout", "pass:secret", "-out", store],
        ],
      }).outputSync();
      assert.ok(success);
      Deno.writeTextFileSync(source, JAVA_SERVER);
      return [source, store, String(port), dir.file("out")];
    },
    written: ({ dir }) => textOf(dir.file("out")),
  },
  {
    name: "gnutls-serv",
    answers: false,
    obstacle: lacks("gnutls-serv", "--version"),
    command: "gnutls-serv",
    prepare: ({ port }) => [
      ...["--echo", "--port", String(port), "--x509certfile", cert, "--x509keyfile", key],
      "--quiet",
    ],
  },
];

async function start({ command, prepare }: Program, place: Place): Promise<Deno.ChildProcess> {
  const child = new Deno.Command(command, {
    args: prepare(place),
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await until(`${command} listens`, () => isListening(place.port));
  return child;
}

const noKernel = grantedLibc() === undefined
  ? "needs --allow-ffi=<path of the C library>"
  : undefined;

for (const program of PROGRAMS) {
  if (program.startsSlowly) continue;
  const echoes = program.name === "gnutls-serv";
  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    if (echoes && signal === "SIGTERM") continue;
    const what = echoes
      ? "gets everything, and its answers come back"
      : `ended by ${signal} in mid-stream: nothing is lost`;
    testUnless(noKernel ?? program.obstacle, `${program.name}: ${what}`, async () => {
      using dir = new TempDir();
      await using backend = new ScriptedServer().start();
      const served = backend.readAll();
      const backendPort = Number(new URL(backend.remote.replace("tcp", "http")).port);
      const place = { dir, port: ScriptedServer.freePort(), backendPort };
      let child = await start(program, place);
      const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${place.port}`, {
        tls: AUTHORITY,
        backoffFirstMs: 10,
        backoffCapMs: 100,
      });
      let echoed = "";
      const receiving = (async () => {
        for await (const part of sender.received) echoed += new TextDecoder().decode(part);
      })();
      const text = () => echoes ? echoed : program.written?.(place) ?? served.join("");
      try {
        await sender.enqueueMany(packets(2000));
        await until("something has arrived", () => text().length > 1000);
        for (let i = 0; i < 20; i++) await sender.enqueueMany(packets(100, 2001 + 100 * i));
        if (!echoes) {
          child.kill(signal);
          await child.status;
          child = await start(program, place);
        } else await until("the answers have come", () => text().endsWith("packet 4000\n"));
        await sender.close({ deliverTimeoutMs: 20_000 });
        await receiving;
        assert.equal(sender.queue.stats().packets, 0);
        const expected = lines(4000).trimEnd().split("\n");
        const missing = () => {
          const found = new Set(text().split("\n"));
          return expected.filter((line) => !found.has(line));
        };
        await until("all has been written", () => missing().length === 0, 10_000)
          .catch(() => assert.deepEqual(missing(), []));
      } finally {
        child.kill("SIGKILL");
        await child.status;
      }
    });
  }
}

for (const program of PROGRAMS) {
  const { name, answers, obstacle, written } = program;
  testUnless(
    noLibssl() ?? obstacle,
    `${name}: ${
      answers ? "tells what it has read" : "does not tell what it has read, and gets nothing"
    }`,
    async () => {
      using dir = new TempDir();
      await using backend = new ScriptedServer().start();
      const served = backend.readAll();
      const backendPort = Number(new URL(backend.remote.replace("tcp", "http")).port);
      const place = { dir, port: ScriptedServer.freePort(), backendPort };
      const child = await start(program, place);
      try {
        const sender = await Sender.open(dir.queue, `tls://127.0.0.1:${place.port}`, {
          tls: { ...AUTHORITY, ...(answers ? {} : { handshakeTimeoutMs: 1000 }) },
          confirm: "reader",
        });
        const statuses = heard(sender);
        const text = () => written?.(place) ?? served.join("");
        // At several moments, so that it is asked several times.
        for (let i = 0; i < 5; i++) {
          await sender.enqueueMany(packets(200, 1 + 200 * i));
          if (answers) await until("they are read", () => sender.queue.stats().packets === 0);
        }
        if (answers) {
          assert.equal(sender.stats().connections, 1);
          await sender.close();
          await until("all is written", () => text() === lines(1000));
        } else {
          await until(
            "it is said",
            () =>
              statuses.some(({ words, error }) =>
                /(not answered|has no) (a TLS )?KeyUpdate .*confirm "kernel"/.test(
                  `${words} ${error?.message}`,
                )
              ),
          );
          assert.equal(sender.queue.stats().packets, 1000);
          await sender.close({ deliverTimeoutMs: 0 });
          assert.equal(text(), "");
        }
      } finally {
        child.kill("SIGKILL");
        await child.status;
      }
    },
  );
}

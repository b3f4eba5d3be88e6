/**
 * The servers of the field ring, as data.
 *
 * @module
 */

import { type Place, type ServerCase, socketOf, type Start, token, TOKEN_LINE } from "./case.ts";
import * as pdu from "./packets.ts";
import { freePort } from "./server_process.ts";

const SYSLOG_HEADER = "<13>1 2026-11-26T20:00:00Z host app - - - ";
const syslogLine = (number: number) => `${SYSLOG_HEADER}${token(number)}\n`;
const metricTime = (number: number) => METRICS_FROM + number;
/** Points have to lie in the past: carbon keeps none that is ahead of the clock. */
const METRICS_FROM = Math.floor(Date.now() / 1000) - 20_000;

function rsyslog(
  name: string,
  input: string,
  more: Pick<ServerCase, "sending"> & Partial<ServerCase>,
): ServerCase {
  const [module = ""] = name.split(" ");
  return {
    name: `rsyslog ${name}`,
    needs: { debian: ["rsyslog"] },
    version: ["rsyslogd", "-v"],
    start({ port, work, output }) {
      const config = `${work}/rsyslog.conf`;
      Deno.writeTextFileSync(
        config,
        `global(workDirectory="${work}")
module(load="${module}")
template(name="message" type="string" string="%${more.line ? "rawmsg" : "msg"}%\\n")
action(type="omfile" file="${output}" template="message")
input(type="${module}" address="127.0.0.1" port="${port}" ${input})
`,
      );
      return { command: "rsyslogd", args: ["-n", "-iNONE", "-f", config] };
    },
    packet: syslogLine,
    ...more,
  };
}

function syslogNg(
  name: string,
  more: Pick<ServerCase, "sending" | "packet">,
): ServerCase {
  return {
    name: `syslog-ng ${name}`,
    needs: {
      // It and rsyslog remove each other.
      unpacked: ["syslog-ng-core"],
      debian: ["libivykis0", "libjson-c5", "libnet1", "libpcre3", "libwrap0"],
    },
    version: ["dpkg-deb", "-f", "syslog-ng-core", "Version"],
    start({ port, work, output, scratch }) {
      const config = `${work}/syslog-ng.conf`;
      const flags = name === "syslog()" ? "" : " flags(no-parse)";
      const root = `${scratch}/unpacked/syslog-ng-core/usr`;
      const series = [...Deno.readDirSync(`${root}/lib/syslog-ng`)]
        .find(({ name }) => /^\d+\.\d+$/.test(name))?.name ?? "";
      Deno.writeTextFileSync(
        config,
        `@version: ${series}
source s { ${name.replace("()", "")}(ip("127.0.0.1") port(${port}) transport("tcp")${flags}); };
destination d { file("${output}" template("$\{MESSAGE}\\n")); };
log { source(s); destination(d); };
`,
      );
      return {
        command: `${root}/sbin/syslog-ng`,
        args: [
          ...["-F", "--no-caps", "-f", config],
          ...["--module-path", `${root}/lib/syslog-ng/${series}`],
          ...["--persist-file", `${work}/persist`, "--control", `${work}/control`],
          ...["--pidfile", `${work}/pid`],
        ],
        env: { LD_LIBRARY_PATH: `${root}/lib/syslog-ng` },
      };
    },
    ...more,
  };
}

/** A server of `npm_server.mjs`. */
function npm(
  name: string,
  library: string,
  version: string,
  more: Pick<ServerCase, "sending" | "packet"> & Partial<ServerCase>,
): ServerCase {
  return {
    name: library,
    needs: { programs: ["node"], npm: [`${library}@${version}`] },
    version: { npm: library },
    start: (place) => npmStart(name, place),
    ...more,
  };
}

/** How a server of `npm_server.mjs` is started. */
export function npmStart(name: string, { port, output, scratch }: Place): Start {
  const program = new URL("npm_server.mjs", import.meta.url).pathname;
  return { command: "node", args: [program, name, `${port}`, output], cwd: `${scratch}/npm` };
}

/** redis with a password, that keeps what it has said yes to. */
export const REDIS: ServerCase = {
  name: "redis, requirepass",
  needs: { debian: ["redis-server"] },
  version: ["redis-server", "--version"],
  start: ({ port, work }) => ({
    command: "redis-server",
    args: [
      ...["--bind", "127.0.0.1", "--port", `${port}`, "--requirepass", "secret"],
      ...["--dir", work, "--appendonly", "yes", "--appendfsync", "always", "--save", ""],
    ],
  }),
  sending: {
    example: "redis_auth.json",
    files: { "login.txt": pdu.text("AUTH secret\r\n") },
    answered: true,
  },
  packet: (number) => `RPUSH field ${token(number)}\r\n`,
  async read({ port }) {
    const { stdout, success } = await new Deno.Command("redis-cli", {
      args: ["-p", `${port}`, "-a", "secret", "--no-auth-warning", "LRANGE", "field", "0", "-1"],
    }).output();
    return success ? new TextDecoder().decode(stdout).trim() : "";
  },
};

/** rsyslog that counts octets, of lines. */
export const RSYSLOG_OCTETS: ServerCase = rsyslog("imtcp octet counting", "", {
  sending: { example: "octet_counted_syslog.json" },
});

/** gpsd, which connects to its receiver: its log has each position that it has read. */
export const GPSD: ServerCase = {
  name: "gpsd, which connects to us",
  needs: { debian: ["gpsd"] },
  version: ["gpsd", "-V"],
  start({ port }) {
    const listensAt = freePort(); // for its own clients
    // Its log has what it makes of each sentence. Its clients get to see none of those by
    // which it finds out what it has connected to.
    const gpsd = ["gpsd", "-N", "-n", "-D", "6", "-S", `${listensAt}`, `tcp://127.0.0.1:${port}`];
    // It logs to syslog where it leads its session: a shell does, and waits for its end.
    const args = ["-c", 'trap : TERM; "$@"; :', "sh", ...gpsd];
    return { command: "sh", args, prints: true, listensAt };
  },
  sending: { flags: ["--input", "lines"] },
  connects: true,
  packet: pdu.nmeaPosition,
  async read({ output }) {
    const log = await Deno.readTextFile(output);
    return [...log.matchAll(/ RMC: ddmmyy=261126 hhmmss=(\d\d)(\d\d)(\d\d)\.00 lat=/g)]
      .map(([, ...parts]) => token(parts.map(Number).reduce((all, part) => all * 60 + part)))
      .join("\n");
  },
};

/** rsyslog on a Unix socket: there is no hold, what it has read is known. */
export const RSYSLOG_UNIX: ServerCase = {
  ...rsyslog("imptcp Unix socket", "", { sending: { flags: ["--input", "lines"] } }),
  unixSocket: true,
  start({ work, output }) {
    const config = `${work}/rsyslog.conf`;
    Deno.writeTextFileSync(
      config,
      `global(workDirectory="${work}")
module(load="imptcp")
template(name="message" type="string" string="%msg%\\n")
action(type="omfile" file="${output}" template="message")
input(type="imptcp" path="${socketOf({ work })}" unlink="on")
`,
    );
    return {
      command: "rsyslogd",
      args: ["-n", "-iNONE", "-f", config],
      listensAt: socketOf({ work }),
    };
  },
};

/** Every server, in the order of the table. */
export const SERVERS: readonly ServerCase[] = [
  rsyslog("imtcp newline", "", { sending: { flags: ["--input", "lines"] } }),
  RSYSLOG_OCTETS,
  rsyslog("imtcp NUL, JSON of several lines", `AddtlFrameDelimiter="0" DisableLFDelimiter="on"`, {
    sending: { flags: ["--input", "gelf"] },
    packet: (number) => `{"version":"1.1","host":"h",\n"short_message":"${token(number)}"}\0`,
    line: /^\{"version":"1.1","host":"h",#012"short_message":"m(\d{6})z"\}$/,
  }),
  rsyslog("imtcp NUL", `AddtlFrameDelimiter="0" DisableLFDelimiter="on"`, {
    sending: { example: "gelf.json" },
    packet: (number) => `{"version":"1.1","host":"h","short_message":"${token(number)}"}\n`,
    line: /^\{"version":"1.1","host":"h","short_message":"m(\d{6})z"\}$/,
  }),
  rsyslog("imptcp newline", "", { sending: { flags: ["--input", "lines"] } }),
  RSYSLOG_UNIX,
  rsyslog("imptcp octet counting", "", { sending: { example: "octet_counted_syslog.json" } }),
  syslogNg("syslog()", { sending: { example: "octet_counted_syslog.json" }, packet: syslogLine }),
  syslogNg("network()", {
    sending: { flags: ["--input", "lines"] },
    packet: (number) => `${token(number)}\n`,
  }),
  REDIS,
  {
    name: "memcached, noreply",
    needs: { debian: ["memcached"] },
    version: ["memcached", "-V"],
    // It forgets everything when it ends: what it prints stays.
    start: ({ port, work }) => ({
      command: "memcached",
      args: ["-l", "127.0.0.1", "-p", `${port}`, "-u", "root", "-vv", "-P", `${work}/pid`],
      prints: true,
    }),
    sending: { flags: ["--input", "delimiter:0d0a310d0a"] },
    packet: (number) => `set ${token(number)} 0 0 1 noreply\r\n1\r\n`,
    line: undefined,
  },
  {
    name: "carbon",
    needs: { debian: ["graphite-carbon", "python3-whisper"] },
    version: ["dpkg-query", "-W", "graphite-carbon"],
    start: carbonStart,
    sending: { example: "carbon.json" },
    packet: (number) => `field ${number} ${metricTime(number)}\n`,
    async read({ work }) {
      const { stdout } = await new Deno.Command("/usr/bin/python3", {
        args: [
          "-c",
          `import sys, whisper
(start, end, step), values = whisper.fetch(sys.argv[1], ${METRICS_FROM} - 1)
for at, value in enumerate(values):
    if value is not None:
        print("m%06dz" % value if start + at * step == ${METRICS_FROM} + value else "bad")`,
          `${work}/whisper/field.wsp`,
        ],
        stderr: "null",
      }).output();
      return new TextDecoder().decode(stdout).trim();
    },
    duplicatesUnknown: "the server keeps one value a second",
  },
  {
    name: "statsd",
    needs: { programs: ["node"], npm: ["statsd@0.9.0"] },
    version: { npm: "statsd" },
    start({ port, work, scratch }) {
      const config = `${work}/statsd.js`;
      // 0 would be 8126 to it, which two at a time cannot have.
      Deno.writeTextFileSync(
        config,
        `{ servers: [{ server: "./servers/tcp", address: "127.0.0.1", port: ${port} }],
  mgmt_address: "127.0.0.1", mgmt_port: ${freePort()}, backends: [], dumpMessages: true, title: false }`,
      );
      const root = `${scratch}/npm/node_modules/statsd`;
      return { command: "node", args: [`${root}/stats.js`, config], cwd: root, prints: true };
    },
    sending: { flags: ["--input", "lines"] },
    packet: (number) => `${token(number)}:1|c\n`,
    line: undefined,
  },
  {
    name: "socat",
    needs: { debian: ["socat"] },
    version: ["socat", "-V"],
    start: ({ port, output }) => ({
      command: "socat",
      args: [
        "-u",
        `TCP-LISTEN:${port},bind=127.0.0.1,reuseaddr,fork`,
        `OPEN:${output},creat,append`,
      ],
    }),
    sending: { flags: ["--input", "lines"] },
    packet: (number) => `${token(number)}\n`,
    // It copies bytes: a line that was begun when it was killed stays as it is.
    line: undefined,
  },
  npm("smpp", "smpp", "0.5.1", {
    sending: {
      example: "smpp.json",
      files: { "bind.pdu": pdu.smppBind("field", "secret") },
      answered: true,
    },
    packet: pdu.smppSubmit,
    // submit_sm_resp with status 0B: the destination's address is not valid.
    refuses: { packet: isRefused, words: /^"\\x80\\x00\\x00\\x04\\x00\\x00\\x00\\x0b/ },
  }),
  npm("teltonika", "complete-teltonika-parser", "0.3.4", {
    sending: { example: "teltonika.json", answered: true },
    packet: pdu.teltonika,
    refuses: { packet: isRefused, words: /^"\\x00\\x00\\x00\\x00"$/ },
  }),
  npm("gt06", "gt06", "1.0.12", {
    sending: {
      example: "gt06.json",
      files: { "login.bin": pdu.gt06Login("0123456789012345") },
    },
    packet: pdu.gt06Location,
    losesBecause: "lost by the server: it takes what one read brings for one location",
  }),
  npm("hl7", "simple-hl7", "3.3.0", {
    sending: { example: "hl7_mllp.json", answered: true },
    packet: (number) => `\x0bMSH|^~\\&|A|B|C|D|20260101||ADT^A01|${token(number)}|P|2.5\r\x1c\r`,
    refuses: { packet: isRefused, words: /\\rMSA\|AE\|/ },
  }),
  npm("smtp", "smtp-server", "3.21.6", {
    sending: { example: "smtp_greeting.json", answered: true },
    packet: (number) =>
      `MAIL FROM:<a@example>\r\nRCPT TO:<b@example>\r\nDATA\r\n${token(number)}\r\n.\r\n`,
  }),
  npm("modbus", "jsmodbus", "5.0.0", {
    sending: { example: "modbus_tcp.json", answered: true },
    packet: pdu.modbusWrite,
  }),
  GPSD,
];

/** What servers of `npm_server.mjs` refuse that have a word for it. */
function isRefused(number: number): boolean {
  return number % 50 === 7;
}

function carbonStart({ port, work }: Place): Start {
  for (const directory of ["whisper", "log"]) {
    Deno.mkdirSync(`${work}/${directory}`, { recursive: true });
  }
  Deno.writeTextFileSync(
    `${work}/carbon.conf`,
    `[cache]
STORAGE_DIR = ${work}
LOCAL_DATA_DIR = ${work}/whisper/
LOG_DIR = ${work}/log/
PID_DIR = ${work}
CONF_DIR = ${work}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = ${port}
PICKLE_RECEIVER_PORT = 0
CACHE_QUERY_PORT = 0
ENABLE_UDP_LISTENER = False
ENABLE_TAGS = False
MAX_UPDATES_PER_SECOND = inf
MAX_CREATES_PER_MINUTE = inf
`,
  );
  Deno.writeTextFileSync(
    `${work}/storage-schemas.conf`,
    "[all]\npattern = .*\nretentions = 1s:1d\n",
  );
  return {
    command: "carbon-cache",
    args: [`--config=${work}/carbon.conf`, `--pidfile=${work}/carbon.pid`, "--nodaemon", "start"],
  };
}

/** The line to look for in what a case's server has written. */
export function lineOf(server: ServerCase): RegExp | undefined {
  return "line" in server ? server.line : TOKEN_LINE;
}

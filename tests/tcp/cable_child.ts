/**
 * A client inside a network namespace: connects, watches its connection, does what its
 * standard input says, and prints what happens as JSON lines.
 *
 * Arguments: host, port, `WatchOptions` as JSON, `SocketOptions` as JSON, and, where the
 * connection is to be watched by its two ends alone, what stands for this one.
 */
import { drained, sendQueue, setSocketOptions, tcpInfo, watch } from "../../src/tcp/tcp.ts";
import { DeadConnectionError } from "../../src/tcp/verdict.ts";

const [hostname = "", port = "0", watchOptions = "{}", socketOptions = "{}", ownName] = Deno.args;
const print = (value: unknown) =>
  Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(value) + "\n"));
const name = (error: unknown) =>
  error instanceof DeadConnectionError ? error.verdict.kind : (error as Error).name;

const conn = await Deno.connect({ hostname, port: Number(port) });
setSocketOptions(conn, JSON.parse(socketOptions));
const { localAddr, remoteAddr } = conn;
const watched = ownName === undefined
  ? conn
  : { localAddr: { hostname: ownName, port: localAddr.port }, remoteAddr };
const watching = watch(watched, JSON.parse(watchOptions));
watching.signal.addEventListener("abort", () => print({ aborted: watching.verdict }));
conn.read(new Uint8Array(1)).then(
  (bytes) => print({ read: bytes }),
  (error) => print({ readFailed: name(error) }),
);
(async () => {
  for await (const { kind } of watching) print({ verdict: kind });
})();

for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  for (const line of text.trim().split("\n")) {
    const [command, ...words] = line.split(" ");
    if (command === "write") {
      await conn.write(new TextEncoder().encode(words.join(" ") + "\n"));
      print({ wrote: sendQueue(conn).sendQueueBytes });
    } else if (command === "state") {
      print({ state: tcpInfo(conn).state });
    } else if (command === "drained") {
      drained(conn, watching.signal).then(
        () => print({ drained: true }),
        (error) => print({ notDrained: name(error) }),
      );
    }
  }
}

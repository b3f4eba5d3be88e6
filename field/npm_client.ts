/**
 * Sends messages with a library from npm, as a program that uses it does:
 * `npm_client.ts LIBRARY PORT FILE`, a message for each line of the file.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import process from "node:process";

const [library, port = "", file = ""] = Deno.args;
const messages = Deno.readTextFileSync(file).trimEnd().split("\n");

switch (library) {
  case "gelf-pro": {
    const { default: gelf } = await import("gelf-pro");
    gelf.setConfig({
      adapterName: "tcp",
      adapterOptions: { host: "127.0.0.1", port: Number(port) },
    });
    for (const message of messages) {
      // A connection for each of them; the next one when it has been written.
      await new Promise<void>((resolve, reject) => {
        gelf.message(message, 6, (error: unknown) => error ? reject(error) : resolve());
      });
    }
    break;
  }
  case "pino-socket": {
    const { default: connect } = await import("pino-socket");
    const socket = await connect({ mode: "tcp", address: "127.0.0.1", port });
    for (const msg of messages) {
      const line = Buffer.from(`${JSON.stringify({ level: 30, msg })}\n`);
      if (!socket.write(line)) await new Promise((resolve) => socket.once("drain", resolve));
    }
    await new Promise<void>((resolve) => {
      socket.once("close", resolve);
      socket.end();
    });
    break;
  }
  case "winston-syslog": {
    const { default: winston } = await import("winston");
    const { Syslog } = await import("winston-syslog");
    const transport = new Syslog({
      ...{ host: "127.0.0.1", port: Number(port), protocol: "tcp4", eol: "\n" },
      ...{ type: "5424", app_name: "field" },
    });
    const logger = winston.createLogger({
      levels: winston.config.syslog.levels,
      transports: [transport],
    });
    for (const message of messages) {
      const logged = new Promise((resolve) => transport.once("logged", resolve));
      logger.info(message);
      await logged;
    }
    await new Promise<void>((resolve) => {
      transport.once("closed", resolve);
      transport.close();
    });
    break;
  }
  default:
    throw new TypeError(`no library ${library}`);
}
process.exit(0);

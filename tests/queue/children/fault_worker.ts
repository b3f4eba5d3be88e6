// The Worker of a queue, with a driver that fails on demand.
import { exit } from "node:process";
import { workerData } from "node:worker_threads";
import { serveStore } from "../../../src/queue/worker/server.ts";
import { obeyingDriver } from "../threads.ts";

serveStore(workerData, obeyingDriver(workerData.path, () => exit(3)));

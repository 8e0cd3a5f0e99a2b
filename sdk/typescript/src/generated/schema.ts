// Generated from docs/openapi.json by scripts/generate.mjs: do not edit.

export interface paths {
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Says that the server serves. It needs no key. */
        get: operations["health"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** This document. It needs no key. */
        get: operations["openapi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/builds": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Builds, the newest first. */
        get: operations["listBuilds"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/function/build/{buildId}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The same as `getBuildLogs`, for the build of a function. */
        get: operations["getFunctionBuildLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/build/files": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Builds an image from files. Answers before the build begins. */
        post: operations["buildImageFromFiles"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/build/github": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Builds an image from a repository on GitHub. Answers before the build begins. */
        post: operations["buildImageFromGithub"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/build/{buildId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A build: where it is, its image, or why it failed. */
        get: operations["getBuild"];
        put?: never;
        /** The same as `getBuild`, by the method that its documentation had. */
        post: operations["getBuildByPost"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/build/{buildId}/cancel": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Ends a build that is not over. */
        post: operations["cancelBuild"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/build/{buildId}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A page of a build's log, or all of it as it grows. */
        get: operations["getBuildLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/import": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Imports an image from a registry. Answers when manifest and config were verified; the layers follow. */
        post: operations["importImage"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/image/{imageId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An image: how far it is, or why it failed. */
        get: operations["getImage"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/images": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Images, the newest first. */
        get: operations["listImages"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Lines of the logs of all VMs, or of those that the filters leave, in the order of time; also of VMs that are over.
         *     Logs of builds are not among them.
         */
        get: operations["searchLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/registry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The registries that there are credentials of. Passwords are never shown. */
        get: operations["listRegistries"];
        put?: never;
        /** Keeps a registry's credential for the account's builds, in place of the one before. */
        post: operations["putRegistry"];
        /** Erases a registry's credential. */
        delete: operations["deleteRegistry"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/snippet/run": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** `runSnippet` is not implemented in this version. */
        post: operations["runSnippet"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/cache": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Caches a VM: it stands still, is made ready in the background, and starts with `startCachedVM` or by a request to its
         *     hostname.
         */
        post: operations["cacheVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/cached/{vmId}/destroy": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Destroys a VM and its volume, now, whatever its state. */
        post: operations["destroyCachedVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/cached/{vmId}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A page of a VM's log, of all its runs in their order, or all of it as it grows. */
        get: operations["getCachedVMLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/cached/{vmId}/start": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Starts a cached VM, or wakes it. Answers when it runs, with how its run started; one that runs is left as it is. */
        post: operations["startCachedVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/cached/{vmId}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Ends a cached VM's run: its stop signal, then a kill. It can be started again, from its prepared state. */
        post: operations["stopCachedVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/start": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Starts a VM. Answers when its sandbox runs; after ten seconds, or with the image still arriving, as `created`. */
        post: operations["startVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A VM. */
        get: operations["getVm"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/destroy": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** The same as `destroyCachedVM`, at the path that its published client has. */
        post: operations["destroyCachedVMShort"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/exec": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Opens a command as a WebSocket. The first message is text: the body of `execVM`. Then binary messages carry bytes, the
         *     first byte the stream: `0` to the command, `1` and `2` from it. Text messages to it are `{"type": "resize", "rows",
         *     "cols"}`, `{"type": "signal", "signal"}` and `{"type": "eof"}`; the last one from it is `{"type": "exit", "exit"}`, or
         *     `{"type": "error", "code", "detail"}`. A browser, which can send no key here, passes a `ticket`.
         */
        get: operations["openExec"];
        put?: never;
        /**
         * Runs a command in a VM that runs, and answers when it is over. With `Accept: text/event-stream` its output comes as it is
         *     written: `event: stdout` and `event: stderr` with `{"data"}`, then `event: exit` with how it ended. A sleeping VM is woken.
         *     A client that hangs up ends the command.
         */
        post: operations["execVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/exec/ticket": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Makes a ticket that opens commands in a VM, by `openExec`, for a minute: for a browser of the builder's end user. */
        post: operations["createExecTicket"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/files": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * A file's bytes, or what is in a directory, of a VM that runs; a sleeping one is woken. With `format=tar` a directory as an
         *     archive of its files, directories and links. The headers `x-file-mode`, `x-file-uid` and `x-file-gid` say whose it is.
         */
        get: operations["readFile"];
        /**
         * Writes a file of a VM that runs: the body, whole or not at all. Directories on the way are made. With `directory=true` a
         *     directory is made; with `format=tar` the body is unpacked into a directory. What is new belongs to the user that the VM's
         *     process runs as.
         */
        put: operations["writeFile"];
        post?: never;
        /** Removes a file or link, or a directory, of a VM that runs. */
        delete: operations["removeFile"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/logs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** A page of a VM's log, also after its end, or all of it as it grows. */
        get: operations["getVMLogs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Ends a VM: its stop signal, then a kill. Answers at the end, or after some seconds while the end goes on. Of a cached
         *     VM it ends the run, as `stopCachedVM` does.
         */
        post: operations["stopVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/suspend": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Puts a running cached VM to sleep where it is. A request to its hostname, `startCachedVM` or a command wakes it. */
        post: operations["suspendVM"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vm/{vmId}/wait": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** Waits until a VM is in a state, or a one-time VM beyond it. Answers the VM as it is then, or when the time is up. */
        get: operations["waitVm"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/vms": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** VMs, the newest first. */
        get: operations["listVMs"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** All endpoints, the newest first. */
        get: operations["listWebhooks"];
        put?: never;
        /** Makes an endpoint. Its `secret` is shown this once. */
        post: operations["createWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** An endpoint: whether it is enabled, and since when it fails. */
        get: operations["getWebhook"];
        put?: never;
        post?: never;
        /** Removes an endpoint, with what is on its way to it. */
        delete: operations["deleteWebhook"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}/deliveries": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** What was sent to an endpoint, and what is on its way; the newest first. */
        get: operations["listWebhookDeliveries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}/deliveries/{eventId}/replay": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Delivers an event again, at once and with the same id. */
        post: operations["replayWebhookDelivery"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}/enable": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Enables an endpoint that was disabled. What it missed meanwhile is not sent. */
        post: operations["enableWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}/rotate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Gives an endpoint a new `secret`, shown this once. For a while deliveries are signed with both. */
        post: operations["rotateWebhookSecret"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/webhook/{webhookId}/test": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /** Sends an endpoint an event `ping`, whatever it chose. */
        post: operations["testWebhook"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/vms": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /** The same as `listVMs`, at the path that its documentation had. */
        get: operations["listVMsUnversioned"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * @description A build.
         * @example {
         *       "buildId": "7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d",
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "metadata": {
         *         "handler": "order_created"
         *       },
         *       "phase": "building",
         *       "progress": {
         *         "step": 2,
         *         "steps": 5
         *       },
         *       "status": "created",
         *       "tenant": "ann",
         *       "updatedAt": "2026-01-05T14:00:02Z"
         *     }
         */
        Build: {
            /**
             * @description The build.
             * @example 7d2f1c1e-94a7-4e1b-9d0e-3f6f2a1b0c9d
             */
            buildId: string;
            /**
             * Format: date-time
             * @description When it was asked for.
             */
            createdAt: Date;
            /** @description Why it failed. */
            error?: components["schemas"]["BuildError"];
            /** @description The image, once the build has succeeded. */
            imageId?: string;
            /** @description The builder's own marks. */
            metadata?: {
                [key: string]: string;
            };
            /** @description What it does at the moment, while it is not over. */
            phase?: components["schemas"]["BuildPhase"];
            /** @description How far its steps are, once they are known. */
            progress?: components["schemas"]["Progress"];
            /** @description Where it is. */
            status: components["schemas"]["BuildStatus"];
            /** @description The builder's end user whose build this is. */
            tenant?: string;
            /**
             * Format: date-time
             * @description When it last changed.
             */
            updatedAt: Date;
        };
        /** @description Why a build failed. */
        BuildError: {
            /**
             * @description The word that programs branch on.
             * @example command_failed
             */
            code: string;
            /**
             * @description The Dockerfile's instruction, as it is written there.
             * @example RUN npm install
             */
            instruction?: string;
            /**
             * Format: int32
             * @description The instruction's first line, from 1.
             */
            line?: number;
            /** @description A sentence. */
            message: string;
        };
        /** @description A build that is over. */
        BuildEvent: {
            /** @description The build. */
            buildId: string;
            /** @description Why it failed, as in getBuild. */
            error?: components["schemas"]["BuildEventError"];
            /** @description The image, where there is one. */
            imageId?: string;
            /** @description The builder's own marks. */
            metadata: {
                [key: string]: string;
            };
            /** @description The end user whose build it is. */
            tenant?: string;
        };
        /** @description Why a build failed. */
        BuildEventError: {
            /**
             * @description The word that programs branch on.
             * @example command_failed
             */
            code: string;
            /** @description The Dockerfile's instruction, as it is written there. */
            instruction?: string;
            /**
             * Format: int32
             * @description The instruction's first line, from 1.
             */
            line?: number;
            /** @description A sentence. */
            message: string;
        };
        /** @description A file of a build. */
        BuildFile: {
            /** @description Its content, as `encoding` says. */
            content: string;
            /**
             * @description Its directory: `.` for the root, or a relative path such as `src/app`.
             * @example .
             */
            dir: string;
            /** @description How `content` stands for bytes. */
            encoding?: components["schemas"]["Encoding"];
            /**
             * Format: int64
             * @description Its permissions, as a number (420 is 0644); 0644 where absent.
             * @default 420
             */
            mode?: number;
            /**
             * @description Its name in the directory.
             * @example handlers.js
             */
            name: string;
        };
        /**
         * @description Builds an image from files.
         * @example {
         *       "dockerfile": "FROM docker.io/library/python:3.12-slim\nCOPY . /app\nCMD [\"python3\", \"/app/handlers.py\"]",
         *       "files": [
         *         {
         *           "content": "print('hello')\n",
         *           "dir": ".",
         *           "name": "handlers.py"
         *         }
         *       ],
         *       "metadata": {
         *         "handler": "order_created"
         *       },
         *       "tenant": "ann"
         *     }
         */
        BuildImageFromFiles: {
            /** @description Values of the Dockerfile's ARGs. */
            buildArgs?: {
                [key: string]: string;
            };
            /** @description The Dockerfile's text. It is not among the files that the image sees. */
            dockerfile: string;
            /** @description What of the files is left out, in place of a `.dockerignore` among them. */
            dockerignore?: string;
            /** @description The files. They are read one by one as [`BuildFile`], since all of them together may be large. */
            files: components["schemas"]["BuildFile"][];
            /** @description The builder's own marks; `listBuilds` filters by them. */
            metadata?: {
                [key: string]: string;
            };
            /**
             * @description Nothing is taken from the cache.
             * @default false
             */
            noCache?: boolean;
            /** @description What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log. */
            secrets?: {
                [key: string]: string;
            };
            /** @description The stage to build; the last one where absent. */
            target?: string;
            /** @description The builder's end user whose build this is. */
            tenant?: string;
        };
        /**
         * @description Builds an image from a repository on GitHub.
         * @example {
         *       "branch": "main",
         *       "buildArgs": {
         *         "NODE_ENV": "production"
         *       },
         *       "dockerfile": "FROM docker.io/library/node:22-slim\nCOPY . /app\n",
         *       "path": "services/web",
         *       "repository": "org/repo",
         *       "token": "github's, for a private one"
         *     }
         */
        BuildImageFromGithub: {
            /**
             * @description A branch, a tag or a commit.
             * @example main
             */
            branch: string;
            /** @description Values of the Dockerfile's ARGs. */
            buildArgs?: {
                [key: string]: string;
            };
            /** @description The Dockerfile's text; one in the repository is not used. */
            dockerfile: string;
            /** @description What of the repository is left out, in place of its own `.dockerignore`. */
            dockerignore?: string;
            /** @description The builder's own marks; `listBuilds` filters by them. */
            metadata?: {
                [key: string]: string;
            };
            /**
             * @description Nothing is taken from the cache.
             * @default false
             */
            noCache?: boolean;
            /** @description The folder of the repository that is built; its root where absent. */
            path?: string;
            /**
             * @description The repository.
             * @example org/repo
             */
            repository: string;
            /** @description What `RUN --mount=type=secret` finds, by its `id`. It is in no layer and no log. */
            secrets?: {
                [key: string]: string;
            };
            /** @description The stage to build; the last one where absent. */
            target?: string;
            /** @description The builder's end user whose build this is. */
            tenant?: string;
            /** @description A token that may read the repository. It is kept sealed, and erased when the repository has been fetched. */
            token?: string;
        };
        /** @description A page of builds, the newest first. */
        BuildList: {
            /** @description The builds. */
            builds: components["schemas"]["Build"][];
            /**
             * @description Token of the next page.
             * @example the next page's token
             */
            pagination?: string;
        };
        /**
         * @description What a build does at the moment.
         * @enum {string}
         */
        BuildPhase: "queued" | "fetching" | "pulling" | "building" | "exporting";
        /**
         * @description Where a build is.
         * @enum {string}
         */
        BuildStatus: "created" | "succeeded" | "failed";
        /**
         * @description Caches a VM: one that starts again and again.
         * @example {
         *       "cpu": 1,
         *       "idleTimeoutSeconds": 60,
         *       "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX",
         *       "memory": 256,
         *       "port": 8080,
         *       "tenant": "ann"
         *     }
         */
        CacheVm: {
            /**
             * @description Whether a request to its hostname starts or wakes it; otherwise such a request is answered with 503.
             * @default true
             */
            autoStart?: boolean;
            /** @description Replaces the image's command; its entrypoint stays. */
            command?: string[];
            /**
             * Format: int64
             * @description CPUs.
             * @default 1
             */
            cpu?: number;
            /**
             * Format: int64
             * @description Another name of `volumeGB`.
             */
            diskSize?: number;
            /** @description Environment variables, set over the image's own. */
            envVars?: {
                [key: string]: string;
            };
            /**
             * Format: int64
             * @description Time without a request, connection or work after which it is put to sleep; absent, it never is.
             */
            idleTimeoutSeconds?: number;
            /**
             * @description The image to run.
             * @example 01GTZHKS9CZHQ1NKZCA3G0H4DX
             */
            imageId: string;
            /**
             * Format: int64
             * @description Memory in MB.
             * @default 256
             */
            memory?: number;
            /** @description The builder's own marks; `listVMs` filters by them. */
            metadata?: {
                [key: string]: string;
            };
            /**
             * Format: int64
             * @description The port that the VM's hostname leads to; without one it has none.
             */
            port?: number;
            /** @description How far it is made ready before it is started. */
            prewarm?: components["schemas"]["Prewarm"];
            /** @description The builder's end user whose VM this is. */
            tenant?: string;
            /**
             * Format: int64
             * @description Longest life of one run.
             */
            timeoutSeconds?: number;
            /**
             * Format: int64
             * @description Size of a volume at `/data`, in GB. It stays as it was left from one run to the next.
             */
            volumeGb?: number;
        };
        /** @description What is to run. */
        Command: string | string[];
        /**
         * @description Makes an endpoint.
         * @example {
         *       "events": [
         *         "build.succeeded",
         *         "build.failed"
         *       ],
         *       "tenant": "ann",
         *       "url": "https://example.com/hooks/cakework"
         *     }
         */
        CreateWebhook: {
            /** @description The builder's own words. */
            description?: string;
            /**
             * @description The events that it is told of; all, and all that there will be, where it names none.
             * @example [
             *       "build.succeeded",
             *       "build.failed"
             *     ]
             */
            events?: string[];
            /** @description Only events of this end user. */
            tenant?: string;
            /**
             * @description Where events are sent: http or https, without a user or password in it.
             * @example https://example.com/hooks/cakework
             */
            url: string;
        };
        /**
         * @description An event on its way to an endpoint.
         * @example {
         *       "attempt": 1,
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "durationMs": 38,
         *       "eventId": "01GV2ZG0000000000000000000",
         *       "state": "delivered",
         *       "statusCode": 204,
         *       "type": "build.succeeded",
         *       "updatedAt": "2026-01-05T14:00:01Z"
         *     }
         */
        Delivery: {
            /**
             * Format: int64
             * @description Attempts so far, or since the last replay.
             */
            attempt: number;
            /**
             * Format: date-time
             * @description When the event happened.
             */
            createdAt: Date;
            /**
             * Format: int64
             * @description How long the last attempt took.
             */
            durationMs?: number;
            /** @description What was wrong with the last attempt. */
            error?: string;
            /** @description The event: `webhook-id` of every attempt. */
            eventId: string;
            /**
             * Format: date-time
             * @description When it is tried next.
             */
            nextAttemptAt?: Date;
            /** @description Where it is. */
            state: components["schemas"]["DeliveryState"];
            /**
             * Format: int32
             * @description HTTP status of the last attempt's answer.
             */
            statusCode?: number;
            /**
             * @description What it tells of.
             * @example build.succeeded
             */
            type: string;
            /**
             * Format: date-time
             * @description When the delivery last changed.
             */
            updatedAt: Date;
        };
        /** @description A page of deliveries, the newest first. */
        DeliveryList: {
            /** @description The deliveries. */
            deliveries: components["schemas"]["Delivery"][];
            /**
             * @description Token of the next page.
             * @example the next page's token
             */
            pagination?: string;
        };
        /**
         * @description Where a delivery is.
         * @enum {string}
         */
        DeliveryState: "pending" | "delivered" | "failed";
        /** @description That an endpoint is disabled. */
        Disabled: {
            /**
             * Format: date-time
             * @description Since when.
             */
            at: Date;
            /** @description A sentence. */
            message: string;
            /** @description Why. */
            reason: components["schemas"]["DisabledReason"];
        };
        /**
         * @description Why an endpoint is disabled.
         * @enum {string}
         */
        DisabledReason: "gone" | "failing";
        /**
         * @description How text stands for bytes.
         * @enum {string}
         */
        Encoding: "utf8" | "base64";
        /**
         * @description Every code. Codes are only ever added.
         * @enum {string}
         */
        ErrorCode: "missing_key" | "invalid_key" | "revoked_key" | "expired_key" | "invalid_ticket" | "scope" | "quota_exceeded" | "invalid_json" | "unknown_field" | "missing_field" | "wrong_type" | "out_of_range" | "too_long" | "invalid_value" | "invalid_env" | "invalid_command" | "invalid_tenant" | "invalid_metadata" | "invalid_date" | "invalid_page_token" | "search_too_wide" | "invalid_path" | "invalid_archive" | "invalid_file" | "file_conflict" | "file_case" | "too_many_files" | "files_too_large" | "body_too_large" | "file_too_large" | "body_timeout" | "registry_unauthorized" | "image_not_found" | "image_architecture" | "image_invalid" | "image_too_large" | "image_reference" | "registry_unavailable" | "unknown_route" | "unknown_vm" | "unknown_webhook" | "unknown_delivery" | "unknown_file" | "unknown_image" | "unknown_build" | "unknown_registry" | "method_not_allowed" | "webhook_disabled" | "image_failed" | "vm_not_cached" | "vm_not_running" | "vm_stopping" | "vm_busy" | "vm_over" | "file_kind" | "file_denied" | "directory_not_empty" | "vm_disk_full" | "start_failed" | "build_over" | "idempotency_conflict" | "request_in_progress" | "upgrade_required" | "too_many_execs" | "rate_limited" | "queue_full" | "not_implemented" | "host_full" | "host_draining" | "host_unavailable" | "isolation_unavailable" | "disk_full" | "overloaded" | "internal";
        /** @description The body that an endpoint is sent. Fields are only ever added. */
        Event: {
            /** @description Of a build event: the build. */
            buildId?: string;
            /** @description The rest. */
            data: components["schemas"]["EventData"];
            /** @description Of `build.succeeded`: the image. */
            imageId?: string;
            /**
             * Format: date-time
             * @description When it happened.
             */
            timestamp: Date;
            /**
             * @description What it tells of.
             * @example build.succeeded
             */
            type: string;
        };
        /** @description What an event says. */
        EventData: components["schemas"]["BuildEvent"] | components["schemas"]["VmEvent"] | components["schemas"]["PingEvent"];
        /**
         * @description Runs a command in a VM that runs, beside its own process.
         * @example {
         *       "command": [
         *         "python3",
         *         "--version"
         *       ],
         *       "cwd": "/app",
         *       "timeoutSeconds": 10
         *     }
         */
        Exec: {
            /** @description The words of the command, or one line for `/bin/sh -c`. */
            command: components["schemas"]["Command"];
            /**
             * @description Working directory, absolute; that of the VM's own process by default.
             * @example /app
             */
            cwd?: string;
            /** @description How `stdin`, `stdout` and `stderr` are written. */
            encoding?: components["schemas"]["Encoding"];
            /** @description Environment variables, set over those of the VM's own process. */
            envVars?: {
                [key: string]: string;
            };
            /** @description All that it can read; nothing by default. Over a WebSocket it comes as messages instead. */
            stdin?: string;
            /**
             * Format: int64
             * @description Time after which it is killed.
             * @default 60
             */
            timeoutSeconds?: number;
            /** @description A terminal: all output is `stdout` then. `true` is one of 24 lines and 80 columns. */
            tty?: components["schemas"]["Tty"];
            /**
             * @description `name`, `uid`, `name:group` or `uid:gid`; the user of the VM's own process by default.
             * @example root
             */
            user?: string;
        };
        /**
         * @description Why a command is over.
         * @enum {string}
         */
        ExecEnd: "exited" | "timeout" | "vm_ended";
        /**
         * @description A server-sent event of a command.
         * @example {
         *       "data": "{\"data\":\"Python 3.12.4\\n\"}",
         *       "event": "stdout"
         *     }
         */
        ExecEvent: {
            /** @description JSON: `{"data"}`, an `ExecExit`, or a problem. */
            data: string;
            /**
             * @description `stdout` or `stderr` for what it wrote; last `exit`, or `error` where its host went away.
             * @example stdout
             */
            event: string;
        };
        /** @description How a command ended. */
        ExecExit: {
            /**
             * Format: int32
             * @description Its exit code, where it exited.
             */
            code?: number;
            /** @description Why it is over. */
            reason: components["schemas"]["ExecEnd"];
            /**
             * Format: int32
             * @description The signal that ended it, where one did.
             */
            signal?: number;
        };
        /**
         * @description A command that is over.
         * @example {
         *       "exit": {
         *         "code": 0,
         *         "reason": "exited"
         *       },
         *       "stderr": "",
         *       "stdout": "Python 3.12.4\n"
         *     }
         */
        ExecResult: {
            /** @description How it ended. */
            exit: components["schemas"]["ExecExit"];
            /** @description What it wrote to its standard error: the first MiB. */
            stderr: string;
            /**
             * Format: int64
             * @description Bytes of the standard error that are missing in `stderr`, where some are.
             */
            stderrMissing?: number;
            /** @description What it wrote to its standard output, or its terminal: the first MiB. */
            stdout: string;
            /**
             * Format: int64
             * @description Bytes of the standard output that are missing in `stdout`, where some are.
             */
            stdoutMissing?: number;
        };
        /**
         * @description What opens commands in one VM for a short while, in place of a key: for those who must not have one.
         * @example {
         *       "expiresAt": "2026-01-05T14:01:00Z",
         *       "ticket": "goes into openExec once"
         *     }
         */
        ExecTicket: {
            /**
             * Format: date-time
             * @description Until when it opens a command; one that is open goes on.
             */
            expiresAt: Date;
            /** @description To be passed as the parameter `ticket` of `openExec`. */
            ticket: string;
        };
        /** @description How a VM ended. */
        Exit: {
            /**
             * Format: int32
             * @description Exit code of the process, where it exited by itself and the code is known.
             */
            code?: number;
            /** @description A sentence, where the reason alone does not say enough. */
            message?: string;
            /** @description It used more memory than it had. */
            oom: boolean;
            /** @description Why it is over. */
            reason: components["schemas"]["ExitReason"];
            /**
             * Format: int32
             * @description Signal that ended the process, where one did.
             */
            signal?: number;
        };
        /**
         * @description Why a VM is over.
         * @enum {string}
         */
        ExitReason: "exited" | "oom" | "timeout" | "stopped" | "start_failed" | "host_lost" | "unknown";
        /**
         * @description A file or directory of a VM.
         * @example {
         *       "gid": 0,
         *       "kind": "file",
         *       "mode": "0644",
         *       "modifiedAt": "2026-01-05T14:00:00Z",
         *       "name": "handlers.py",
         *       "size": 15,
         *       "uid": 0
         *     }
         */
        FileEntry: {
            /**
             * Format: int32
             * @description Group.
             */
            gid: number;
            /** @description What it is. */
            kind: components["schemas"]["FileKind"];
            /**
             * @description Permission bits in octal digits, such as `0644`.
             * @example 0644
             */
            mode: string;
            /**
             * Format: date-time
             * @description When it was last changed.
             */
            modifiedAt: Date;
            /** @description The last part of its path. What is no UTF-8 in it is U+FFFD. */
            name: string;
            /**
             * Format: int64
             * @description Bytes of a file.
             */
            size: number;
            /** @description Where a link leads. */
            target?: string;
            /**
             * Format: int32
             * @description Owner.
             */
            uid: number;
        };
        /**
         * @description What a file is.
         * @enum {string}
         */
        FileKind: "file" | "directory" | "link" | "other";
        /** @description What is in a directory, by name. */
        FileList: {
            /** @description The directory. */
            directory: components["schemas"]["FileEntry"];
            /** @description Its entries. */
            entries: components["schemas"]["FileEntry"][];
            /**
             * @description There are more.
             * @example false
             */
            truncated: boolean;
        };
        /** @description A line of the log of one of many VMs. */
        FoundLine: components["schemas"]["LogLine"] & {
            /** @description The VM's tenant, if it has one. */
            tenant?: string;
            /** @description Whose line it is. */
            vmId: string;
        };
        /**
         * @description A page out of the logs of many VMs.
         * @example {
         *       "from": "2026-01-05T14:00:00Z",
         *       "lines": [
         *         {
         *           "level": "error",
         *           "message": "no order 7",
         *           "tenant": "ann",
         *           "timestamp": 1767621601234,
         *           "vmId": "e784996f346483"
         *         }
         *       ]
         *     }
         */
        FoundLogs: {
            /** @description `from` of the query: pass it back with `pagination`. */
            from?: string;
            /** @description The lines, in the order that was asked for; those of the same millisecond by the VMs' ids. */
            lines: components["schemas"]["FoundLine"][];
            /**
             * @description Token of the next page. Without it all logs were read to their ends for now (or to their beginnings). A page with
             *     a token may have few lines, or none: much was read then, and little found.
             */
            pagination?: string;
            /** @description `to` of the query: pass it back with `pagination`. */
            to?: string;
        };
        /** @description That the server serves. */
        Health: {
            /**
             * @description `ok`
             * @example ok
             */
            status: string;
            /**
             * @description The version of this build.
             * @example 0.1.0
             */
            version: string;
        };
        /**
         * @description An image.
         * @example {
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "digest": "sha256:b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c",
         *       "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX",
         *       "name": "registry.example.com/team/app:1",
         *       "progress": 1,
         *       "sizeBytes": 43211212,
         *       "state": "ready",
         *       "updatedAt": "2026-01-05T14:00:09Z"
         *     }
         */
        Image: {
            /**
             * Format: date-time
             * @description When it was imported.
             */
            createdAt: Date;
            /** @description Digest of its manifest. */
            digest: string;
            /** @description Why it failed. */
            error?: components["schemas"]["ImageError"];
            /**
             * @description The image.
             * @example 01GTZHKS9CZHQ1NKZCA3G0H4DX
             */
            imageId: string;
            /** @description The reference that it was imported from. */
            name: string;
            /**
             * Format: double
             * @description Part of the layers that is there, 0–1.
             */
            progress: number;
            /**
             * Format: int64
             * @description Compressed bytes of its layers.
             */
            sizeBytes: number;
            /** @description Where it is. */
            state: components["schemas"]["ImageState"];
            /** @description The builder's end user whose image this is. */
            tenant?: string;
            /**
             * Format: date-time
             * @description When it last changed.
             */
            updatedAt: Date;
        };
        /** @description Why an image failed. */
        ImageError: {
            /** @description One of the problem codes. */
            code: string;
            /** @description A sentence. */
            message: string;
        };
        /** @description A page of images, the newest first. */
        ImageList: {
            /** @description The images. */
            images: components["schemas"]["Image"][];
            /**
             * @description Token of the next page.
             * @example the next page's token
             */
            pagination?: string;
        };
        /**
         * @description Where an image is.
         * @enum {string}
         */
        ImageState: "pulling" | "ready" | "failed";
        /**
         * @description Imports an image from a registry.
         * @example {
         *       "imageUri": "123456789012.dkr.ecr.us-west-2.amazonaws.com/team/app:1",
         *       "password": "the registry's",
         *       "tenant": "ann",
         *       "username": "AWS"
         *     }
         */
        ImportImage: {
            /** @description Reference such as `registry.example.com/team/app:1.2`. */
            imageUri: string;
            /**
             * @description Password of a private registry: for AWS ECR what `aws ecr get-login-password` prints, for another registry
             *     `user:password`, or the password alone beside `username`.
             */
            password?: string;
            /** @description The builder's end user whose image this is. */
            tenant?: string;
            /** @description User of a private registry; without it the one in `password`, or `AWS`. */
            username?: string;
        };
        /** @description The answer to an import: manifest and config were verified, the layers follow. */
        ImportedImage: {
            /**
             * @description The image.
             * @example 01GTZHKS9CZHQ1NKZCA3G0H4DX
             */
            imageId: string;
        };
        /**
         * @description A server-sent event of a log that is followed.
         * @example {
         *       "data": "{\"timestamp\":1767621601234,\"level\":\"info\",\"message\":\"listening on 8080\"}",
         *       "event": "log",
         *       "id": "the token to go on after it"
         *     }
         */
        LogEvent: {
            /** @description JSON: a `LogLine`, or `{"status"}` with how the log's VM or build stands then. */
            data: string;
            /**
             * @description `log` for a line; `end` when there will be no more.
             * @example log
             */
            event: string;
            /** @description Of a line its place: as `Last-Event-ID` it goes on behind it. */
            id?: string;
        };
        /** @description A line of a log. */
        LogLine: {
            /** @description The line was longer than 64 KiB: it goes on in the next one of its stream. */
            continues?: boolean;
            /** @description `info` for standard output, `error` for standard error; a JSON line keeps its own. */
            level: string;
            /** @description The text. */
            message: string;
            /**
             * Format: int64
             * @description Unix time in milliseconds.
             */
            timestamp: number;
        };
        /**
         * @description A page of a log.
         * @example {
         *       "lines": [
         *         {
         *           "level": "info",
         *           "message": "listening on 8080",
         *           "timestamp": 1767621601234
         *         }
         *       ],
         *       "pagination": "the next page's token"
         *     }
         */
        Logs: {
            /** @description `from` of the query: pass it back with `pagination`. */
            from?: string;
            /** @description The lines, in the order that was asked for. */
            lines: components["schemas"]["LogLine"][];
            /** @description Token of the next page. Without it the log was read to its end for now (or to its beginning). */
            pagination?: string;
            /** @description `to` of the query: pass it back with `pagination`. */
            to?: string;
        };
        /** @description A try. */
        PingEvent: {
            /** @description The endpoint that is tried. */
            webhookId: string;
        };
        /**
         * @description How far a cached VM is made ready before it is started.
         * @enum {string}
         */
        Prewarm: "auto" | "boot" | "create" | "none";
        /**
         * @description The body of every failure, `application/problem+json`.
         * @example {
         *       "code": "unknown_vm",
         *       "detail": "There is no VM e784996f346483.",
         *       "instance": "/v1/vm/e784996f346483",
         *       "requestId": "01GV2ZFBT345TRTRDK6VHBECCZ",
         *       "status": 404,
         *       "title": "There is no such VM",
         *       "type": "urn:cakework:problem:unknown_vm"
         *     }
         */
        Problem: {
            /** @description The word that programs branch on. */
            code: components["schemas"]["ErrorCode"];
            /** @description What happened this time. */
            detail: string;
            /** @description The field or parameter that is wrong, where one is: `envVars.A B`, `command[2]`, `batch`. */
            field?: string;
            /** @description What to do about it, where that is known. */
            fix?: string;
            /** @description The path of the request. */
            instance: string;
            /** @description Names the request in the server's log; the header `x-request-id` says it too. */
            requestId: string;
            /**
             * Format: int32
             * @description The HTTP status.
             */
            status: number;
            /** @description What the code means, the same for every occurrence. */
            title: string;
            /**
             * @description A URI that names the code.
             * @example urn:cakework:problem:unknown_vm
             */
            type: string;
        };
        /** @description How far a build's steps are. */
        Progress: {
            /**
             * Format: int32
             * @description Steps that are done.
             */
            step: number;
            /**
             * Format: int32
             * @description Steps in all.
             */
            steps: number;
        };
        /**
         * @description Keeps a registry's credential for the account's builds.
         * @example {
         *       "host": "registry.example.com",
         *       "password": "the registry's",
         *       "username": "ann"
         *     }
         */
        PutRegistry: {
            /**
             * @description The registry, as `host` or `host:port`.
             * @example registry.example.com
             */
            host: string;
            /** @description The password or token. It is kept sealed and never shown again. */
            password: string;
            /** @description The user; `AWS` for ECR. */
            username: string;
        };
        /**
         * @description A registry that the account's builds may pull from.
         * @example {
         *       "host": "registry.example.com",
         *       "updatedAt": "2026-01-05T14:00:00Z",
         *       "username": "ann"
         *     }
         */
        Registry: {
            /** @description The registry, in its one spelling. */
            host: string;
            /**
             * Format: date-time
             * @description When its credential was last set.
             */
            updatedAt: Date;
            /** @description The user. */
            username: string;
        };
        /** @description The registries, in the order of their names. */
        RegistryList: {
            /** @description The registries. */
            registries: components["schemas"]["Registry"][];
        };
        /**
         * @description `whsec_` and the key in base64. It is erased when it is dropped and never shown by a log.
         * @example whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD
         */
        Secret: string;
        /**
         * @description How a started VM sleeps.
         * @enum {string}
         */
        Sleep: "paused" | "spilled";
        /** @description How a VM's run started. */
        Start: {
            /**
             * Format: int64
             * @description From the host's hearing of the wish until its process went on, in milliseconds.
             */
            durationMs: number;
            /** @description Why a faster tier was tried and given up. */
            fallback?: string;
            /** @description What it began with. */
            tier: components["schemas"]["StartTier"];
        };
        /**
         * @description What a start began with.
         * @enum {string}
         */
        StartTier: "paused" | "restored" | "created" | "cold";
        /**
         * @description Starts a VM.
         * @example {
         *       "cpu": 1,
         *       "envVars": {
         *         "GREETING": "hello"
         *       },
         *       "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX",
         *       "memory": 256,
         *       "metadata": {
         *         "plan": "free"
         *       },
         *       "port": 8080,
         *       "tenant": "ann",
         *       "timeoutSeconds": 600
         *     }
         */
        StartVm: {
            /** @description Replaces the image's command; its entrypoint stays. */
            command?: string[];
            /**
             * Format: int64
             * @description CPUs.
             * @default 1
             */
            cpu?: number;
            /** @description Environment variables, set over the image's own. */
            envVars?: {
                [key: string]: string;
            };
            /**
             * @description The image to run.
             * @example 01GTZHKS9CZHQ1NKZCA3G0H4DX
             */
            imageId: string;
            /**
             * Format: int64
             * @description Memory in MB.
             * @default 256
             */
            memory?: number;
            /** @description The builder's own marks; `listVMs` filters by them. */
            metadata?: {
                [key: string]: string;
            };
            /**
             * Format: int64
             * @description The port that the VM's hostname leads to; without one it has none.
             */
            port?: number;
            /** @description The builder's end user whose VM this is. */
            tenant?: string;
            /**
             * Format: int64
             * @description Longest life of the VM once it runs.
             */
            timeoutSeconds?: number;
            /**
             * Format: int64
             * @description Size of a volume at `/data`, in GB.
             */
            volumeGb?: number;
        };
        /** @description A terminal. */
        Tty: boolean | components["schemas"]["WindowSize"];
        /**
         * @description A VM.
         * @example {
         *       "autoStart": true,
         *       "cpu": 1,
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "hostname": "01gv2zfbt345trtrdk6vhbeccz.localhost",
         *       "id": "e784996f346483",
         *       "idleTimeoutSeconds": 60,
         *       "imageId": "01GTZHKS9CZHQ1NKZCA3G0H4DX",
         *       "isolation": "gvisor",
         *       "memory": 256,
         *       "metadata": {
         *         "plan": "free"
         *       },
         *       "port": 8080,
         *       "prewarm": "auto",
         *       "start": {
         *         "durationMs": 4,
         *         "tier": "paused"
         *       },
         *       "state": "started",
         *       "tenant": "ann",
         *       "updatedAt": "2026-01-05T14:00:01Z",
         *       "url": "http://01gv2zfbt345trtrdk6vhbeccz.localhost:8080"
         *     }
         */
        Vm: {
            /** @description Whether a request to its hostname starts or wakes it. */
            autoStart?: boolean;
            /**
             * Format: int32
             * @description CPUs.
             */
            cpu: number;
            /**
             * Format: date-time
             * @description When it was asked for.
             */
            createdAt: Date;
            /** @description How it ended; of a cached one its last run. */
            exit?: components["schemas"]["Exit"];
            /**
             * @description The name that it is reached by.
             * @example 01gv2zfbt345trtrdk6vhbeccz.localhost
             */
            hostname: string;
            /**
             * @description The VM.
             * @example e784996f346483
             */
            id: string;
            /**
             * Format: int64
             * @description Time without a request, connection or work after which it is put to sleep.
             */
            idleTimeoutSeconds?: number;
            /** @description The image that it runs. */
            imageId: string;
            /**
             * @description What keeps its code inside; known once a host took it.
             * @example gvisor
             */
            isolation?: string;
            /**
             * Format: int32
             * @description Memory in MB.
             */
            memory: number;
            /** @description The builder's own marks. */
            metadata?: {
                [key: string]: string;
            };
            /**
             * Format: int32
             * @description The port that its hostname leads to.
             */
            port?: number;
            /** @description How far it is made ready before it is started. */
            prewarm?: components["schemas"]["Prewarm"];
            /** @description Where it is `started`: how it sleeps, if it does. This and the next three are of cached VMs. */
            sleep?: components["schemas"]["Sleep"];
            /** @description How its run started. */
            start?: components["schemas"]["Start"];
            /** @description Where it is. */
            state: components["schemas"]["VmState"];
            /** @description The builder's end user whose VM this is. */
            tenant?: string;
            /**
             * Format: int64
             * @description Longest life of the VM, or of a run of a cached one, once it runs.
             */
            timeoutSeconds?: number;
            /**
             * Format: date-time
             * @description When its state last changed.
             */
            updatedAt: Date;
            /**
             * @description Where its port is reached.
             * @example http://01gv2zfbt345trtrdk6vhbeccz.localhost:8080
             */
            url?: string;
            /**
             * Format: int32
             * @description Size of its volume at `/data`, in GB.
             */
            volumeGb?: number;
        };
        /** @description A VM in its new state. */
        VmEvent: {
            /** @description How it ended. */
            exit?: components["schemas"]["Exit"];
            /** @description The name that it is reached by. */
            hostname: string;
            /** @description The image that it runs. */
            imageId: string;
            /** @description The builder's own marks. */
            metadata: {
                [key: string]: string;
            };
            /** @description Where it is. */
            state: components["schemas"]["VmState"];
            /** @description The end user whose VM it is. */
            tenant?: string;
            /** @description The VM. */
            vmId: string;
        };
        /** @description A page of VMs, the newest first. */
        VmList: {
            /**
             * @description Token of the next page.
             * @example the next page's token
             */
            pagination?: string;
            /** @description The VMs. */
            vms: components["schemas"]["Vm"][];
        };
        /**
         * @description Where a VM is.
         * @enum {string}
         */
        VmState: "created" | "started" | "stopped" | "destroyed";
        /**
         * @description An endpoint.
         * @example {
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "enabled": true,
         *       "events": [
         *         "build.succeeded",
         *         "build.failed"
         *       ],
         *       "tenant": "ann",
         *       "updatedAt": "2026-01-05T14:00:00Z",
         *       "url": "https://example.com/hooks/cakework",
         *       "webhookId": "01GV2ZFBT345TRTRDK6VHBECCZ"
         *     }
         */
        Webhook: {
            /**
             * Format: date-time
             * @description When it was made.
             */
            createdAt: Date;
            /** @description The builder's own words. */
            description?: string;
            /** @description Why none are. */
            disabled?: components["schemas"]["Disabled"];
            /** @description Whether events are sent to it. */
            enabled: boolean;
            /** @description The events that it is told of; all where it is absent. */
            events?: string[];
            /**
             * Format: date-time
             * @description Since when every attempt failed, where the last one did.
             */
            failingSince?: Date;
            /**
             * Format: date-time
             * @description Until then deliveries are signed with the secret before, too.
             */
            previousSecretUntil?: Date;
            /** @description Only events of this end user. */
            tenant?: string;
            /**
             * Format: date-time
             * @description When it last changed.
             */
            updatedAt: Date;
            /** @description Where events are sent. */
            url: string;
            /**
             * @description The endpoint.
             * @example 01GV2ZFBT345TRTRDK6VHBECCZ
             */
            webhookId: string;
        };
        /** @description The endpoints, the newest first. */
        WebhookList: {
            /** @description The endpoints. */
            webhooks: components["schemas"]["Webhook"][];
        };
        /**
         * @description An endpoint with its new secret, which is shown this once.
         * @example {
         *       "createdAt": "2026-01-05T14:00:00Z",
         *       "enabled": true,
         *       "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
         *       "updatedAt": "2026-01-05T14:00:00Z",
         *       "url": "https://example.com/hooks/cakework",
         *       "webhookId": "01GV2ZFBT345TRTRDK6VHBECCZ"
         *     }
         */
        WebhookSecret: components["schemas"]["Webhook"] & {
            /** @description The key of its signatures. */
            secret: components["schemas"]["Secret"];
        };
        /** @description The size of a terminal. */
        WindowSize: {
            /**
             * Format: int32
             * @description Characters of a line.
             */
            cols: number;
            /**
             * Format: int32
             * @description Lines.
             */
            rows: number;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    health: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    openapi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": unknown;
                };
            };
        };
    };
    listBuilds: {
        parameters: {
            query?: {
                /** @description Only with this status. */
                status?: components["schemas"]["BuildStatus"];
                /** @description Only the one of this image. */
                imageId?: string;
                /** @description Only this end user's. */
                tenant?: string;
                /** @description Only with this mark; as often as needed. */
                "metadata.KEY"?: string;
                /** @description 1–1000, 100 by default. */
                limit?: number;
                /** @description The token of the page before. */
                pagination?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["BuildList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getFunctionBuildLogs: {
        parameters: {
            query?: {
                /** @description Case-insensitive substring. */
                query?: string;
                /** @description 50–1000, 100 by default. */
                batch?: number;
                /** @description `oldest_first` (default) or `newest_first`. */
                order?: string;
                /** @description The token of the page before. */
                pagination?: string;
                /** @description ISO 8601, inclusive. */
                from?: string;
                /** @description ISO 8601, inclusive. */
                to?: string;
                /**
                 * @description `true`: server-sent events instead of a page. `event: log` has a line as its data; `event: end` comes when there
                 *     will be no more. `Last-Event-ID` goes on after the event that it names.
                 */
                follow?: boolean;
            };
            header?: never;
            path: {
                buildId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page; with `follow` the events. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Logs"];
                    "text/event-stream": components["schemas"]["LogEvent"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    buildImageFromFiles: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BuildImageFromFiles"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    buildImageFromGithub: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["BuildImageFromGithub"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getBuild: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                buildId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getBuildByPost: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                buildId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cancelBuild: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                buildId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Build"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getBuildLogs: {
        parameters: {
            query?: {
                /** @description Case-insensitive substring. */
                query?: string;
                /** @description 50–1000, 100 by default. */
                batch?: number;
                /** @description `oldest_first` (default) or `newest_first`. */
                order?: string;
                /** @description The token of the page before. */
                pagination?: string;
                /** @description ISO 8601, inclusive. */
                from?: string;
                /** @description ISO 8601, inclusive. */
                to?: string;
                /**
                 * @description `true`: server-sent events instead of a page. `event: log` has a line as its data; `event: end` comes when there
                 *     will be no more. `Last-Event-ID` goes on after the event that it names.
                 */
                follow?: boolean;
            };
            header?: never;
            path: {
                buildId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page; with `follow` the events. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Logs"];
                    "text/event-stream": components["schemas"]["LogEvent"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    importImage: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ImportImage"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ImportedImage"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getImage: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                imageId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Image"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listImages: {
        parameters: {
            query?: {
                /** @description Only this end user's. */
                tenant?: string;
                /** @description 1–1000, 100 by default. */
                limit?: number;
                /** @description The token of the page before. */
                pagination?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ImageList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    searchLogs: {
        parameters: {
            query?: {
                /** @description Case-insensitive substring. */
                query?: string;
                /** @description Only of this end user's VMs. */
                tenant?: string;
                /** @description Only of VMs of this image. */
                imageId?: string;
                /** @description Only of VMs with this mark; as often as needed. */
                "metadata.KEY"?: string;
                /** @description 50–1000, 100 by default. */
                batch?: number;
                /** @description `oldest_first` (default) or `newest_first`. */
                order?: string;
                /** @description The token of the page before. */
                pagination?: string;
                /** @description ISO 8601, inclusive. */
                from?: string;
                /** @description ISO 8601, inclusive. */
                to?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FoundLogs"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listRegistries: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["RegistryList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    putRegistry: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PutRegistry"];
            };
        };
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Registry"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteRegistry: {
        parameters: {
            query: {
                /** @description The registry. */
                host: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is erased. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    runSnippet: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description This version does not have it. */
            501: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    cacheVM: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CacheVm"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    destroyCachedVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its end is sure. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getCachedVMLogs: {
        parameters: {
            query?: {
                /** @description Case-insensitive substring. */
                query?: string;
                /** @description 50–1000, 100 by default. */
                batch?: number;
                /** @description `oldest_first` (default) or `newest_first`. */
                order?: string;
                /** @description The token of the page before. */
                pagination?: string;
                /** @description ISO 8601, inclusive. */
                from?: string;
                /** @description ISO 8601, inclusive. */
                to?: string;
                /**
                 * @description `true`: server-sent events instead of a page. `event: log` has a line as its data; `event: end` comes when there
                 *     will be no more. `Last-Event-ID` goes on after the event that it names.
                 */
                follow?: boolean;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page; with `follow` the events. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Logs"];
                    "text/event-stream": components["schemas"]["LogEvent"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    startCachedVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It runs. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description It goes on starting, or waking: its image may still arrive. */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stopCachedVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The end of its run is sure. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    startVM: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["StartVm"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getVm: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    destroyCachedVMShort: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its end is sure. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    openExec: {
        parameters: {
            query?: {
                /** @description In place of a key: what `createExecTicket` answered. */
                ticket?: string;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The WebSocket is open. */
            101: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    execVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Exec"];
            };
        };
        responses: {
            /** @description How it ended and what it wrote, or the events. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExecResult"];
                    "text/event-stream": components["schemas"]["ExecEvent"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    createExecTicket: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ExecTicket"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readFile: {
        parameters: {
            query: {
                /** @description Absolute, resolved in the VM; links are followed. */
                path: string;
                /** @description `tar`: a directory as an archive. */
                format?: string;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A file's bytes or an archive; of a directory its list. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FileList"];
                    "application/octet-stream": string;
                    "application/x-tar": string;
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    writeFile: {
        parameters: {
            query: {
                /** @description Absolute, resolved in the VM; a link is followed. */
                path: string;
                /** @description Permission bits in octal digits; those of the file that is replaced, or 0644, or 0755 of a directory by default. */
                mode?: string;
                /** @description `true`: a directory; the body is empty. */
                directory?: boolean;
                /** @description `tar`: an archive, unpacked into the directory `path`. */
                format?: string;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FileEntry"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    removeFile: {
        parameters: {
            query: {
                /** @description Absolute, resolved in the VM; a link itself is removed. */
                path: string;
                /** @description `true`: also what is in a directory. */
                recursive?: boolean;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is gone. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getVMLogs: {
        parameters: {
            query?: {
                /** @description Case-insensitive substring. */
                query?: string;
                /** @description 50–1000, 100 by default. */
                batch?: number;
                /** @description `oldest_first` (default) or `newest_first`. */
                order?: string;
                /** @description The token of the page before. */
                pagination?: string;
                /** @description ISO 8601, inclusive. */
                from?: string;
                /** @description ISO 8601, inclusive. */
                to?: string;
                /**
                 * @description `true`: server-sent events instead of a page. `event: log` has a line as its data; `event: end` comes when there
                 *     will be no more. `Last-Event-ID` goes on after the event that it names.
                 */
                follow?: boolean;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page; with `follow` the events. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Logs"];
                    "text/event-stream": components["schemas"]["LogEvent"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stopVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Its end is sure. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    suspendVM: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It sleeps. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    waitVm: {
        parameters: {
            query: {
                /** @description The state to wait for. */
                state: components["schemas"]["VmState"];
                /** @description Seconds, 0–55, 30 by default. */
                timeout?: number;
            };
            header?: never;
            path: {
                vmId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Vm"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listVMs: {
        parameters: {
            query?: {
                /** @description Only of this image. */
                imageId?: string;
                /** @description Only in this state. */
                status?: components["schemas"]["VmState"];
                /** @description Only this end user's. */
                tenant?: string;
                /** @description Only with this mark; as often as needed. */
                "metadata.KEY"?: string;
                /** @description 1–1000, 100 by default. */
                limit?: number;
                /** @description The token of the page before. */
                pagination?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VmList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listWebhooks: {
        parameters: {
            query?: {
                /** @description Only this end user's. */
                tenant?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    createWebhook: {
        parameters: {
            query?: never;
            header?: {
                /**
                 * @description Of the caller's choice, new for each request: what is sent again with it within 24 hours is not made again, and is
                 *     answered as it was.
                 */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["CreateWebhook"];
            };
        };
        responses: {
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookSecret"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    getWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    deleteWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is gone. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listWebhookDeliveries: {
        parameters: {
            query?: {
                /** @description 1–1000, 100 by default. */
                limit?: number;
                /** @description The token of the page before. */
                pagination?: string;
            };
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["DeliveryList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    replayWebhookDelivery: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhookId: string;
                eventId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Delivery"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    enableWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Webhook"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rotateWebhookSecret: {
        parameters: {
            query?: {
                /** @description How long the secret before signs, too: 0–604800, a day by default. */
                graceSeconds?: number;
            };
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["WebhookSecret"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    testWebhook: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                webhookId: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Delivery"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    listVMsUnversioned: {
        parameters: {
            query?: {
                /** @description Only of this image. */
                imageId?: string;
                /** @description Only in this state. */
                status?: components["schemas"]["VmState"];
                /** @description Only this end user's. */
                tenant?: string;
                /** @description Only with this mark; as often as needed. */
                "metadata.KEY"?: string;
                /** @description 1–1000, 100 by default. */
                limit?: number;
                /** @description The token of the page before. */
                pagination?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["VmList"];
                };
            };
            /** @description A problem, with a stable `code`. */
            default: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}

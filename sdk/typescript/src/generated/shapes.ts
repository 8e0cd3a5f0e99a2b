// Generated from docs/openapi.json by scripts/generate.mjs: do not edit.

/** Where a value of the wire holds moments (`dates`), fields that clients name otherwise (`names`), and values that do (`inner`). */
export interface Shape {
  readonly base?: string;
  readonly dates?: readonly string[];
  readonly names?: Readonly<Record<string, string>>;
  readonly inner?: Readonly<Record<string, string>>;
}

export const shapes: Readonly<Record<string, Shape>> = {
  "Build": {
    "dates": [
      "createdAt",
      "updatedAt"
    ]
  },
  "BuildList": {
    "inner": {
      "builds": "Build"
    }
  },
  "CacheVm": {
    "names": {
      "volumeGB": "volumeGb"
    }
  },
  "Delivery": {
    "dates": [
      "createdAt",
      "nextAttemptAt",
      "updatedAt"
    ]
  },
  "DeliveryList": {
    "inner": {
      "deliveries": "Delivery"
    }
  },
  "Disabled": {
    "dates": [
      "at"
    ]
  },
  "Event": {
    "dates": [
      "timestamp"
    ]
  },
  "ExecTicket": {
    "dates": [
      "expiresAt"
    ]
  },
  "FileEntry": {
    "dates": [
      "modifiedAt"
    ]
  },
  "FileList": {
    "inner": {
      "directory": "FileEntry",
      "entries": "FileEntry"
    }
  },
  "Image": {
    "dates": [
      "createdAt",
      "updatedAt"
    ]
  },
  "ImageList": {
    "inner": {
      "images": "Image"
    }
  },
  "Registry": {
    "dates": [
      "updatedAt"
    ]
  },
  "RegistryList": {
    "inner": {
      "registries": "Registry"
    }
  },
  "StartVm": {
    "names": {
      "volumeGB": "volumeGb"
    }
  },
  "Vm": {
    "dates": [
      "createdAt",
      "updatedAt"
    ],
    "names": {
      "volumeGB": "volumeGb"
    }
  },
  "VmList": {
    "inner": {
      "vms": "Vm"
    }
  },
  "Webhook": {
    "dates": [
      "createdAt",
      "failingSince",
      "previousSecretUntil",
      "updatedAt"
    ],
    "inner": {
      "disabled": "Disabled"
    }
  },
  "WebhookList": {
    "inner": {
      "webhooks": "Webhook"
    }
  },
  "WebhookSecret": {
    "base": "Webhook"
  }
};

/* An NVML with two cards whose answers a test sets: enough of nvml.h for the readers, and nothing else. */
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, GPU_IS_LOST = 15 };
#define UNSET 0x7fffffff

struct card { int celsius, margin, slowdown, fan, watts_m, limit_m, lost; unsigned long long reasons; };
struct card cards[2];
int fake_count = 1, fake_init_result = OK;

static int tell(int value, unsigned *out) { if (value == UNSET) return NOT_SUPPORTED; *out = (unsigned)value; return OK; }

int nvmlInitWithFlags(unsigned flags) { (void)flags; return fake_init_result; }
int nvmlInit_v2(void) { return fake_init_result; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "some error"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)fake_count; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, struct card **out) { *out = &cards[i]; return OK; }
int nvmlDeviceGetName(struct card *c, char *name, unsigned size) { (void)c; strncpy(name, "NVIDIA RTX 4000 SFF Ada", size); return OK; }
int nvmlDeviceGetTemperature(struct card *c, unsigned kind, unsigned *out) {
    (void)kind; return c->lost ? GPU_IS_LOST : tell(c->celsius, out);
}
int nvmlDeviceGetMarginTemperature(struct card *c, unsigned *info) { return c->lost ? GPU_IS_LOST : tell(c->margin, info + 1); }
int nvmlDeviceGetTemperatureThreshold(struct card *c, unsigned which, unsigned *out) {
    return which == 1 ? tell(c->slowdown, out) : NOT_SUPPORTED;
}
int nvmlDeviceGetCurrentClocksEventReasons(struct card *c, unsigned long long *out) {
    if (c->lost) return GPU_IS_LOST;
    *out = c->reasons;
    return OK;
}
int nvmlDeviceGetFanSpeed(struct card *c, unsigned *out) { return tell(c->fan, out); }
int nvmlDeviceGetPowerUsage(struct card *c, unsigned *out) { return tell(c->watts_m, out); }
int nvmlDeviceGetEnforcedPowerLimit(struct card *c, unsigned *out) { return tell(c->limit_m, out); }

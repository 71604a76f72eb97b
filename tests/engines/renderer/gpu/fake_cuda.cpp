// A CUDA driver without a GPU: the functions that drawing a face calls, on this machine's memory and processor.
//
// What makes it strict: every call needs a current context in its thread; memory that the "GPU" sees has other addresses than the host's
// (a second mapping), so a wrong pointer crashes or shows; copies outside of allocations fail; while a stream is captured nothing runs;
// everything allocated is counted, and everything freed. The kernel is the real one, compiled for the CPU.
//
// fake_fail(name, code, after): the call after `after` good ones fails with `code`. fake_calls(name), fake_live(kind), fake_set(...).
#include "kernel_on_cpu.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

typedef int R;
typedef unsigned long long P;
typedef void* H;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400,
       NOT_FOUND = 500, NOT_SUPPORTED = 801, CAPTURE_INVALID = 901 };

struct Failure {
    int code, after;
};
struct Stream {
    bool capturing = false, broken = false;
    std::vector<std::function<void()>> written;
};
struct Graph {
    std::vector<std::function<void()>> work;
};
struct Mapped {
    char* device;
    size_t size;
    int fd;
    bool registered;
};

static std::mutex lock_;
static std::map<std::string, int> calls_;
static std::map<std::string, Failure> failures_;
static std::map<P, size_t> device_;        // device memory
static std::map<char*, Mapped> mapped_;    // host memory that the device sees
static std::map<H, Stream> streams_;
static std::map<H, Graph> graphs_, execs_;
static int capability_ = 89, can_register_ = 1, retained_ = 0, events_ = 0;
static thread_local int current_ = 0;
static long handles_ = 0x1000;

static R enter(const char* name, bool context = true) {
    std::lock_guard<std::mutex> hold(lock_);
    calls_[name]++;
    auto f = failures_.find(name);
    if (f != failures_.end() && f->second.after-- <= 0) return f->second.code;
    return context && !current_ ? INVALID_CONTEXT : OK;
}
#define ENTER() do { if (R r = enter(__func__)) return r; } while (0)
#define ENTER_WITHOUT_CONTEXT() do { if (R r = enter(__func__, false)) return r; } while (0)

static H handle() { return (H)(handles_ += 16); }

static bool on_device(P address, size_t size) {
    for (auto& [start, length] : device_)
        if (address >= start && address + size <= start + length) return true;
    return false;
}

static R push(H stream, std::function<void()> work) {
    auto s = streams_.find(stream);
    if (s == streams_.end()) return INVALID_HANDLE;
    if (s->second.capturing) s->second.written.push_back(work);
    else work();
    return OK;
}

extern "C" {
int fake_calls(const char* name) { return calls_[name]; }
void fake_fail(const char* name, int code, int after) { failures_[name] = {code, after}; }
void fake_heal() { failures_.clear(); }
void fake_set(const char* what, int value) { (strcmp(what, "capability") ? can_register_ : capability_) = value; }
int fake_live(const char* kind) {
    if (!strcmp(kind, "device")) return device_.size();
    if (!strcmp(kind, "graphs")) return execs_.size();
    if (!strcmp(kind, "contexts")) return retained_;
    int n = 0;
    for (auto& [host, m] : mapped_) n += m.registered == !strcmp(kind, "registered");
    return n;
}

R cuInit(unsigned) { ENTER_WITHOUT_CONTEXT(); return OK; }
R cuDriverGetVersion(int* v) { ENTER_WITHOUT_CONTEXT(); *v = 13000; return OK; }
R cuDeviceGetCount(int* n) { ENTER_WITHOUT_CONTEXT(); *n = 1; return OK; }
R cuDeviceGet(int* d, int i) { ENTER_WITHOUT_CONTEXT(); *d = i; return OK; }
R cuDeviceGetName(char* s, int n, int) { ENTER_WITHOUT_CONTEXT(); strncpy(s, "Fake RTX", n); return OK; }
R cuDeviceComputeCapability(int* major, int* minor, int) { ENTER_WITHOUT_CONTEXT(); *major = capability_ / 10; *minor = capability_ % 10; return OK; }
R cuDeviceGetAttribute(int* v, int what, int) {
    ENTER_WITHOUT_CONTEXT();
    *v = what == 75 ? capability_ / 10 : what == 76 ? capability_ % 10 : what == 99 ? can_register_ : 1;
    return OK;
}
R cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { ENTER_WITHOUT_CONTEXT(); return OK; }
R cuDevicePrimaryCtxRetain(H* c, int) { ENTER_WITHOUT_CONTEXT(); *c = (H)0x100; retained_++; return OK; }
R cuDevicePrimaryCtxRelease_v2(int) { ENTER_WITHOUT_CONTEXT(); retained_--; return OK; }
R cuCtxSetCurrent(H c) { ENTER_WITHOUT_CONTEXT(); current_ = c != 0; return OK; }
R cuCtxPushCurrent_v2(H) { ENTER_WITHOUT_CONTEXT(); current_++; return OK; }
R cuCtxPopCurrent_v2(H* c) { ENTER(); current_--; if (c) *c = (H)0x100; return OK; }
R cuCtxGetDevice(int* d) { ENTER(); *d = 0; return OK; }
R cuCtxGetApiVersion(H, unsigned* v) { ENTER_WITHOUT_CONTEXT(); *v = 3020; return OK; }

R cuMemAlloc_v2(P* p, size_t n) {
    ENTER();
    if (n > 1ull << 36) return OUT_OF_MEMORY;
    *p = (P)aligned_alloc(256, (n + 255) / 256 * 256);
    device_[*p] = n;
    return OK;
}
R cuMemFree_v2(P p) {
    ENTER();
    if (!device_.erase(p)) return INVALID_VALUE;
    free((void*)p);
    return OK;
}
R cuMemHostAlloc(void** p, size_t n, unsigned flags) {
    ENTER();
    if (!(flags & 2)) return INVALID_VALUE;  // DEVICEMAP
    int fd = memfd_create("pinned", 0);
    if (ftruncate(fd, n)) return OUT_OF_MEMORY;
    char* host = (char*)mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mapped_[host] = {(char*)mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), n, fd, false};
    *p = host;
    return OK;
}
R cuMemFreeHost(void* p) {
    ENTER();
    auto m = mapped_.find((char*)p);
    if (m == mapped_.end() || m->second.registered) return INVALID_VALUE;
    munmap(m->second.device, m->second.size);
    munmap(p, m->second.size);
    close(m->second.fd);
    mapped_.erase(m);
    return OK;
}
R cuMemHostRegister_v2(void* p, size_t n, unsigned flags) {
    ENTER();
    if ((P)p % 4096 || !n || !(flags & 2)) return INVALID_VALUE;
    void* twin = mremap(p, 0, n, MREMAP_MAYMOVE);  // a second mapping of the same pages: only of shared memory
    if (twin == MAP_FAILED) return NOT_SUPPORTED;
    mapped_[(char*)p] = {(char*)twin, n, -1, true};
    return OK;
}
R cuMemHostUnregister(void* p) {
    ENTER();
    auto m = mapped_.find((char*)p);
    if (m == mapped_.end() || !m->second.registered) return INVALID_VALUE;
    munmap(m->second.device, m->second.size);
    mapped_.erase(m);
    return OK;
}
R cuMemHostGetDevicePointer_v2(P* d, void* p, unsigned) {
    ENTER();
    auto m = mapped_.find((char*)p);
    if (m == mapped_.end()) return INVALID_VALUE;
    *d = (P)m->second.device;
    return OK;
}
R cuMemHostGetFlags(unsigned* f, void*) { ENTER(); *f = 2; return OK; }
R cuMemcpyHtoDAsync_v2(P d, const void* h, size_t n, H stream) {
    ENTER();
    return on_device(d, n) ? push(stream, [=] { memcpy((void*)d, h, n); }) : INVALID_VALUE;
}
R cuMemcpyDtoHAsync_v2(void* h, P d, size_t n, H stream) {
    ENTER();
    return on_device(d, n) ? push(stream, [=] { memcpy(h, (void*)d, n); }) : INVALID_VALUE;
}

R cuStreamCreate(H* s, unsigned flags) {
    ENTER();
    if (flags != 1) return INVALID_VALUE;  // one that waits for the legacy stream would wait for everybody
    streams_[*s = handle()];
    return OK;
}
R cuStreamDestroy_v2(H s) { ENTER(); streams_.erase(s); return OK; }
R cuStreamSynchronize(H s) {
    ENTER();
    auto found = streams_.find(s);
    if (found == streams_.end()) return INVALID_HANDLE;
    if (found->second.capturing) { found->second.broken = true; return CAPTURE_INVALID; }
    return OK;
}
R cuStreamIsCapturing(H s, int* status) { ENTER(); *status = streams_[s].capturing; return OK; }
R cuLaunchHostFunc(H s, void (*fn)(void*), void* data) { ENTER(); return push(s, [=] { fn(data); }); }
R cuStreamBeginCapture_v2(H s, int) { ENTER(); streams_[s].capturing = true; streams_[s].written.clear(); return OK; }
R cuStreamEndCapture(H s, H* g) {
    ENTER();
    Stream& stream = streams_[s];
    stream.capturing = false;
    if (stream.broken) { stream.broken = false; *g = 0; return CAPTURE_INVALID; }
    graphs_[*g = handle()].work = stream.written;
    return OK;
}
R cuGraphInstantiateWithFlags(H* e, H g, P) { ENTER(); if (!graphs_.count(g)) return INVALID_HANDLE; execs_[*e = handle()] = graphs_[g]; return OK; }
R cuGraphDestroy(H g) { ENTER(); return graphs_.erase(g) ? OK : INVALID_HANDLE; }
R cuGraphExecDestroy(H e) { ENTER(); return execs_.erase(e) ? OK : INVALID_HANDLE; }
R cuGraphLaunch(H e, H s) {
    ENTER();
    if (!execs_.count(e)) return INVALID_HANDLE;
    for (auto& work : execs_[e].work) push(s, work);
    return OK;
}

R cuEventCreate(H* e, unsigned) { ENTER(); *e = new double(0); events_++; return OK; }
R cuEventDestroy_v2(H e) { ENTER(); delete (double*)e; events_--; return OK; }
R cuEventRecord(H e, H s) {
    ENTER();
    return push(s, [=] { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); *(double*)e = t.tv_sec * 1e3 + t.tv_nsec / 1e6; });
}
R cuEventElapsedTime_v2(float* ms, H a, H b) { ENTER(); *ms = *(double*)b - *(double*)a; return OK; }

R cuModuleLoadData(H* m, const void* image) {
    ENTER();
    if (memcmp(image, "\177ELF", 4) && memcmp(image, "//", 2)) return INVALID_IMAGE;  // neither machine code nor PTX
    *m = handle();
    return OK;
}
R cuModuleLoadDataEx(H* m, const void* image, unsigned, void*, void*) { return cuModuleLoadData(m, image); }
R cuModuleUnload(H) { ENTER(); return OK; }
R cuModuleGetFunction(H* f, H, const char* name) {
    ENTER();
    if (strcmp(name, "compose")) return NOT_FOUND;
    *f = handle();
    return OK;
}
R cuFuncSetBlockShape(H, int, int, int) { ENTER(); return OK; }  // pycuda calls it before each launch
R cuLaunchKernel(H, unsigned gx, unsigned gy, unsigned, unsigned bx, unsigned by, unsigned, unsigned, H stream, void** parameters, void** extra) {
    ENTER();
    P values[2];
    if (extra) memcpy(values, extra[1], sizeof values);  // pycuda hands one buffer over
    else
        for (int k = 0; k < 2; k++) values[k] = *(P*)parameters[k];
    if (!on_device(values[0], sizeof(Scene))) return INVALID_VALUE;
    P scene = values[0], where = values[1];
    return push(stream, [=] { run_compose((const Scene*)scene, (const unsigned long long*)where, {gx, gy, 1}, {bx, by, 1}); });
}

R cuGetErrorString(R code, const char** s) { *s = code == OUT_OF_MEMORY ? "out of memory" : "an error that the fake was told to make"; return OK; }
R cuGetErrorName(R code, const char** s) { return cuGetErrorString(code, s); }

R cuGetExportTable(const void** table, const void*) { *table = nullptr; return NOT_FOUND; }  // NVRTC asks for one and does without

R cuGetProcAddress_v2(const char* symbol, void** f, int, P, int* status) {
    std::string name = symbol;
    if (name == "cuGraphInstantiate") name = "cuGraphInstantiateWithFlags";
    Dl_info here;
    static void* self = dladdr((void*)cuInit, &here) ? dlopen(here.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : nullptr;
    *f = nullptr;
    for (const char* suffix : {"_v2", ""})
        if (!*f) *f = dlsym(self, (name + suffix).c_str());
    if (status) *status = *f ? 0 : 1;
    return *f ? OK : NOT_FOUND;
}
}

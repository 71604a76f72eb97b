// From the network's outputs to an NV12 picture (full-range BT.709) in one launch: warp the plate by the flow, the hair over it, add the
// residual, lay the patches over it, all over the background, write luma and chroma. This is engines/renderer/compose.py again, in the
// same order and with the same roundings to bytes; what stays the same from frame to frame (plate, masks, background) is made there.
//
// Colours are premultiplied (Y, Cb, Cr, A). One thread draws 4 x 2 pixels of luma and the 2 x 1 of chroma beneath them, so that a warp
// writes whole lines of 128 bytes to the ring. Plain C but for the launch: the tests compile this file for the CPU and compare.

// One rung. engines/renderer/cuda_compose.py fills it field by field; pointers first, so that no padding depends on the compiler.
struct Scene {
    const float* flow;            // (2, flow_height, flow_width) pixels of the frame that the network draws for
    const float* residual;        // (4, residual_size, residual_size) premultiplied RGBA, 0..1
    const float* mouth;           // (3, mouth_height, mouth_width) RGB, 0..1
    const float* eyes;            // (2, 3, eye_height, eye_width), the second mirrored
    const float* places;          // (3, 2, 3) patch pixel -> frame pixel
    const float* hair_flow;       // (2, hair_flow_height, hair_flow_width) pixels; null where the face has no layer of hair
    const float* shades;          // (shade_count,) how much of each shade picture
    const unsigned char* plate;   // (plate_size, plate_size, 4)
    const unsigned char* behind;  // (size * 3 / 2, size) the background as NV12
    const float* reach;           // (residual_size, residual_size) 255 where the residual acts, else 0
    const float* mouth_mask;      // (mouth_height, mouth_width) 0..255
    const float* eye_mask;        // (eye_height, eye_width) 0..255
    const unsigned char* crisp;   // (256,) alpha -> alpha
    const float* hair;            // (hair_height, hair_width, 4) premultiplied RGBA, 0..255
    const float* hair_shades;     // (shade_count, hair_height, hair_width, 4)
    float ycca[16];               // premultiplied RGBA -> (Y, Cb, Cr, A), row by row
    float scale;                  // size / size of the network's frame
    float grain;                  // pixels of the plate for one of the network's frame
    float start, step;            // where the first pixel of the frame looks into the plate at rest, and how far apart pixels look
    float soft[3], shift;         // patches are averaged over the pixels -1, 0, 1 first; by how much that moves them
    float hair_x, hair_y;         // the hair picture at rest
    int size, plate_size;
    int flow_height, flow_width, residual_size, mouth_height, mouth_width, eye_height, eye_width;
    int hair_flow_height, hair_flow_width, shade_count, hair_height, hair_width;
    int hair_left, hair_top, hair_right, hair_bottom;  // where hair can be
};

// Four neighbours of a point and its weights between them; what lies outside is the edge.
struct Taps {
    int x0, x1, y0, y1;
    float wx, wy;
};

struct Pixel {
    float c[4];  // Y, Cb, Cr, A: whole numbers 0..255
};

static __device__ float to_byte(float v) { return fminf(fmaxf(rintf(v), 0.f), 255.f); }

static __device__ int clamp_to(int v, int size) { return v < 0 ? 0 : (v < size ? v : size - 1); }

static __device__ Taps taps_at(float x, float y, int width, int height) {
    const float fx = floorf(x), fy = floorf(y);
    Taps t;
    t.x0 = clamp_to((int)fx, width);
    t.x1 = clamp_to((int)fx + 1, width);
    t.y0 = clamp_to((int)fy, height);
    t.y1 = clamp_to((int)fy + 1, height);
    t.wx = x - fx;
    t.wy = y - fy;
    return t;
}

static __device__ float mix(float a, float b, float c, float d, float wx, float wy) {
    const float top = a + (b - a) * wx, low = c + (d - c) * wx;
    return top + (low - top) * wy;
}

static __device__ float row(const float* m, float r, float g, float b, float a) { return m[0] * r + m[1] * g + m[2] * b + m[3] * a; }

static __device__ void over(Pixel& pixel, const Pixel& front) {
    const float clear = 255.f - front.c[3];
    for (int k = 0; k < 4; k++) pixel.c[k] = fminf(front.c[k] + rintf(pixel.c[k] * clear / 255.f), 255.f);
}

// A flow (2, height, width) at a pixel of the frame, in pixels of the network's frame. A wild one (or NaN) must not overflow the
// conversion to int: it looks far outside.
static __device__ void look(const Scene& s, const float* flow, int height, int width, int x, int y, float path[2]) {
    const Taps f = taps_at((x + 0.5f) * width / s.size - 0.5f, (y + 0.5f) * height / s.size - 0.5f, width, height);
    for (int k = 0; k < 2; k++) {
        const float* p = flow + k * width * height;
        const float v = mix(p[f.y0 * width + f.x0], p[f.y0 * width + f.x1], p[f.y1 * width + f.x0], p[f.y1 * width + f.x1], f.wx, f.wy);
        path[k] = fminf(fmaxf(v, -8192.f), 8192.f);
    }
}

static __device__ Pixel warped(const Scene& s, int x, int y) {
    float path[2];
    look(s, s.flow, s.flow_height, s.flow_width, x, y, path);
    const int n = s.plate_size;
    const Taps t = taps_at(path[0] * s.grain + (s.start + x * s.step), path[1] * s.grain + (s.start + y * s.step), n, n);
    const unsigned char* p = s.plate;
    const int a = 4 * (t.y0 * n + t.x0), b = 4 * (t.y0 * n + t.x1), c = 4 * (t.y1 * n + t.x0), d = 4 * (t.y1 * n + t.x1);
    Pixel out;
    for (int k = 0; k < 4; k++) out.c[k] = to_byte(mix(p[a + k], p[b + k], p[c + k], p[d + k], t.wx, t.wy));
    return out;
}

// One pixel of the hair, shaded for this frame; nothing outside of its picture.
static __device__ Pixel strand(const Scene& s, int x, int y) {
    Pixel out = {{0.f, 0.f, 0.f, 0.f}};
    if (x < 0 || y < 0 || x >= s.hair_width || y >= s.hair_height) return out;
    float v[4];
    for (int k = 0; k < 4; k++) {
        const int at = 4 * (y * s.hair_width + x) + k;
        float sum = 0.f;
        for (int i = 0; i < s.shade_count; i++) sum += s.shades[i] * s.hair_shades[i * s.hair_height * s.hair_width * 4 + at];
        v[k] = fminf(fmaxf(sum + s.hair[at], 0.f), 255.f);
    }
    for (int k = 0; k < 4; k++) out.c[k] = to_byte(row(s.ycca + 4 * k, v[0], v[1], v[2], v[3]));
    return out;
}

static __device__ void comb(const Scene& s, Pixel& pixel, int x, int y) {
    if (x < s.hair_left || y < s.hair_top || x >= s.hair_right || y >= s.hair_bottom) return;
    float path[2];
    look(s, s.hair_flow, s.hair_flow_height, s.hair_flow_width, x, y, path);
    const float px = path[0] * s.scale + (x - s.hair_x), py = path[1] * s.scale + (y - s.hair_y), fx = floorf(px), fy = floorf(py);
    const int ix = (int)fx, iy = (int)fy;
    if (ix < -1 || iy < -1 || ix >= s.hair_width || iy >= s.hair_height) return;
    Pixel q[4], front;
    for (int k = 0; k < 4; k++) q[k] = strand(s, ix + (k & 1), iy + (k >> 1));
    for (int k = 0; k < 4; k++) front.c[k] = to_byte(mix(q[0].c[k], q[1].c[k], q[2].c[k], q[3].c[k], px - fx, py - fy));
    over(pixel, front);
}

// Add the residual.
static __device__ void correct(const Scene& s, Pixel& pixel, int x, int y) {
    const int n = s.residual_size, plane = n * n;
    const Taps r = taps_at((x + 0.5f) * n / s.size - 0.5f, (y + 0.5f) * n / s.size - 0.5f, n, n);
    const int at[4] = {r.y0 * n + r.x0, r.y0 * n + r.x1, r.y1 * n + r.x0, r.y1 * n + r.x1};
    float v[4];
    for (int k = 0; k < 4; k++) {
        float q[4];
        for (int i = 0; i < 4; i++) q[i] = s.residual[k * plane + at[i]] * s.reach[at[i]];
        v[k] = mix(q[0], q[1], q[2], q[3], r.wx, r.wy);
    }
    for (int k = 0; k < 4; k++) pixel.c[k] = to_byte(pixel.c[k] + row(s.ycca + 4 * k, v[0], v[1], v[2], v[3]));
}

// One pixel of a patch under its mask, softened; nothing outside.
static __device__ Pixel soft(const Scene& s, const float* rgb, const float* mask, int height, int width, bool mirrored, int x, int y) {
    Pixel out = {{0.f, 0.f, 0.f, 0.f}};
    if (x < 0 || y < 0 || x >= width || y >= height) return out;
    for (int q = 0; q < 9; q++) {
        const float weight = s.soft[q % 3] * s.soft[q / 3];
        if (weight == 0.f) continue;
        const int i = clamp_to(x + q % 3 - 1, width), j = clamp_to(y + q / 3 - 1, height);
        const float* p = rgb + j * width + (mirrored ? width - 1 - i : i);
        const float m = mask[j * width + i];
        float v[3];
        for (int k = 0; k < 3; k++) v[k] = fminf(fmaxf(p[k * height * width], 0.f), 1.f) * m;
        for (int k = 0; k < 4; k++) out.c[k] += weight * to_byte(row(s.ycca + 4 * k, v[0], v[1], v[2], m));
    }
    for (int k = 0; k < 4; k++) out.c[k] = to_byte(out.c[k]);
    return out;
}

// Lay patch `which` (0 mouth, 1 left eye, 2 right eye) over a pixel.
static __device__ void paste(const Scene& s, Pixel& pixel, int which, int x, int y) {
    const int height = which ? s.eye_height : s.mouth_height, width = which ? s.eye_width : s.mouth_width;
    const float* m = s.places + 6 * which;
    const float a = m[0] * s.scale, b = m[1] * s.scale, c = m[3] * s.scale, d = m[4] * s.scale, det = a * d - b * c;
    const float dx = x + 0.5f - m[2] * s.scale, dy = y + 0.5f - m[5] * s.scale, centre = 0.5f + s.shift;
    const float px = (d * dx - b * dy) / det - centre, py = (a * dy - c * dx) / det - centre;
    if (!(px > -1.f && py > -1.f && px < width && py < height)) return;  // NaN returns too
    const float fx = floorf(px), fy = floorf(py);
    const float* rgb = which ? s.eyes + (which - 1) * 3 * height * width : s.mouth;
    const float* mask = which ? s.eye_mask : s.mouth_mask;
    Pixel q[4], front;
    for (int k = 0; k < 4; k++) q[k] = soft(s, rgb, mask, height, width, which == 2, (int)fx + (k & 1), (int)fy + (k >> 1));
    for (int k = 0; k < 4; k++) front.c[k] = to_byte(mix(q[0].c[k], q[1].c[k], q[2].c[k], q[3].c[k], px - fx, py - fy));
    over(pixel, front);
}

static __device__ unsigned int finish(float front, float alpha, unsigned char behind) {
    return (unsigned int)fminf((alpha == 0.f ? 0.f : front) + rintf(behind * (255.f - alpha) / 255.f), 255.f);
}

// `where` is one word of page-locked memory that holds the address of the frame to write: a captured graph serves every slot of the ring.
extern "C" __global__ void compose(const Scene* __restrict__ scene, const unsigned long long* __restrict__ where) {
    const Scene& s = *scene;
    const int size = s.size, x = 4 * (blockIdx.x * blockDim.x + threadIdx.x), y = 2 * (blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= size || y >= size) return;
    unsigned char* out = (unsigned char*)*where;
    float half[2][3] = {{0.f, 0.f, 0.f}, {0.f, 0.f, 0.f}};  // Cb, Cr, A of 2 x 2 pixels each
    for (int j = 0; j < 2; j++) {
        unsigned int word = 0;
        for (int i = 0; i < 4; i++) {
            Pixel p = warped(s, x + i, y + j);
            if (s.hair_flow) comb(s, p, x + i, y + j);
            correct(s, p, x + i, y + j);
            for (int which = 0; which < 3; which++) paste(s, p, which, x + i, y + j);
            for (int k = 0; k < 3; k++) half[i / 2][k] += p.c[k + 1];
            word |= finish(p.c[0], s.crisp[(int)p.c[3]], s.behind[(y + j) * size + x + i]) << (8 * i);
        }
        *(unsigned int*)(out + (y + j) * size + x) = word;
    }
    const int at = (size + y / 2) * size + x;
    unsigned int word = 0;
    for (int i = 0; i < 2; i++) {
        const float alpha = s.crisp[(int)floorf(half[i][2] / 4.f + 0.5f)];
        for (int k = 0; k < 2; k++) word |= finish(floorf(half[i][k] / 4.f + 0.5f), alpha, s.behind[at + 2 * i + k]) << (16 * i + 8 * k);
    }
    *(unsigned int*)(out + at) = word;
}

"""Training loops as others write them, to compare the trainer with.

Each function takes the game and returns a step that can be called again and again. All use
ganscale's networks, so that loops are compared and not networks; everything else is done as in
the code that the docstring names, in its precision, with its way to load data and its optimizer.
"""

import copy
import itertools
from collections.abc import Callable

import torch
from setting import Setting, Step
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

EMA_DECAY = 0.99


def textbook(setting: Setting, workers: int = 0) -> Step:
    """The GAN of PyTorch-GAN (implementations/gan/gan.py), which many courses use.

    The generator learns first, and the discriminator's gradients of that are thrown away. The
    losses are printed at every step.
    """
    generator, discriminator = setting.networks()
    learns_g, learns_d = setting.adam(generator), setting.adam(discriminator)
    size, device = setting.experiment.train.batch_size, setting.device
    epoch = setting.loader(workers)

    def step() -> None:
        real = next(epoch).to(device)
        ones, zeros = torch.ones(size, device=device), torch.zeros(size, device=device)
        learns_g.zero_grad()
        fake = generator(setting.latents())
        of_g = binary_cross_entropy_with_logits(discriminator(fake), ones)
        of_g.backward()
        learns_g.step()
        learns_d.zero_grad()
        of_real = binary_cross_entropy_with_logits(discriminator(real), ones)
        of_fake = binary_cross_entropy_with_logits(discriminator(fake.detach()), zeros)
        of_d = (of_real + of_fake) / 2
        of_d.backward()
        learns_d.step()
        of_d.item(), of_g.item()

    return step


def textbook_with_workers(setting: Setting) -> Step:
    """The same with two processes that load data."""
    return textbook(setting, workers=2)


def dcgan_example(setting: Setting) -> Step:
    """The loop of PyTorch's example (pytorch/examples, dcgan/main.py).

    Real and generated images have a backward pass each, the generator learns from the images that
    the discriminator saw, and the discriminator's gradients of that are thrown away.
    """
    generator, discriminator = setting.networks()
    learns_g, learns_d = setting.adam(generator), setting.adam(discriminator)
    size, device = setting.experiment.train.batch_size, setting.device
    epoch = setting.loader(workers=2)

    def step() -> None:
        learns_d.zero_grad()
        real = next(epoch).to(device)
        label = torch.full((size,), 1.0, device=device)
        logits = discriminator(real)
        of_real = binary_cross_entropy_with_logits(logits, label)
        of_real.backward()
        shown = [logits.sigmoid().mean().item()]
        fake = generator(setting.latents())
        logits = discriminator(fake.detach())
        of_fake = binary_cross_entropy_with_logits(logits, label.fill_(0.0))
        of_fake.backward()
        shown.append(logits.sigmoid().mean().item())
        learns_d.step()
        learns_g.zero_grad()
        logits = discriminator(fake)
        of_g = binary_cross_entropy_with_logits(logits, torch.full_like(label, 1.0))
        of_g.backward()
        shown.append(logits.sigmoid().mean().item())
        learns_g.step()
        shown += [(of_real + of_fake).item(), of_g.item()]

    return step


def r3gan_authors(setting: Setting) -> Step:
    """The loop of R3GAN's authors (brownvc/R3GAN: R3GAN/Trainer.py, training/training_loop.py).

    A pass for real and one for generated images, whose logits serve the loss and the penalties;
    R1 and R2 by a call of `autograd.grad` each; only the player that learns has gradients, which
    are copied into one tensor and out of it; new real images for the generator's turn. They run
    the larger stages in bfloat16 and the rest in float32; this runs all in the game's precision.
    """
    generator, discriminator = setting.networks()
    average = copy.deepcopy(generator).requires_grad_(False)
    learns_g, learns_d = setting.adam(generator), setting.adam(discriminator)
    generator.requires_grad_(False)
    discriminator.requires_grad_(False)
    gamma = setting.penalty_weight()
    epoch, device = setting.loader(workers=3, scaled=False), setting.device

    def next_real() -> Tensor:
        return next(epoch).to(device).to(torch.float32) / 127.5 - 1

    def judge(images: Tensor) -> Tensor:
        with setting.autocast():
            logits: Tensor = discriminator(images)
        return logits.float()

    def generate() -> Tensor:
        with setting.autocast():
            images: Tensor = generator(setting.latents())
        return images.float()

    def penalty(images: Tensor, logits: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum([1, 2, 3])

    def learn(network: nn.Module, optimizer: torch.optim.Adam, loss: Callable[[], Tensor]) -> None:
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        loss().mean().backward()
        network.requires_grad_(False)
        learned = [p for p in network.parameters() if p.grad is not None]
        flat = torch.cat([p.grad.flatten() for p in learned if p.grad is not None])
        for p, gradient in zip(learned, flat.split([p.numel() for p in learned]), strict=True):
            p.grad = gradient.reshape(p.shape)
        optimizer.step()

    def discriminator_loss() -> Tensor:
        real = next_real().requires_grad_(True)
        fake = generate().detach().requires_grad_(True)
        of_real, of_fake = judge(real), judge(fake)
        penalties = penalty(real, of_real) + penalty(fake, of_fake)
        return softplus(of_fake - of_real) + gamma / 2 * penalties

    def generator_loss() -> Tensor:
        real = next_real()
        return softplus(judge(real) - judge(generate()))

    def step() -> None:
        learn(discriminator, learns_d, discriminator_loss)
        learn(generator, learns_g, generator_loss)
        with torch.no_grad():
            for mean, p in zip(average.parameters(), generator.parameters(), strict=True):
                mean.copy_(p.lerp(mean, EMA_DECAY))
            for copied, buffer in zip(average.buffers(), generator.buffers(), strict=True):
                copied.copy_(buffer)

    return step


def mimicry(setting: Setting) -> Step:
    """The loop of mimicry (kwotsin/mimicry: torch_mimicry/training/trainer.py), for SNGAN.

    The generator learns once and then the discriminator several times; neither is frozen, and the
    discriminator's images are generated with a graph that nothing uses.
    """
    generator, discriminator = setting.networks()
    learns_g, learns_d = setting.adam(generator), setting.adam(discriminator)
    epoch, device = setting.loader(workers=4), setting.device
    updates, steps = setting.experiment.discriminator.steps, itertools.count()

    def step() -> None:
        for update in range(updates):
            real = next(epoch).to(device)
            if update == 0:
                learns_g.zero_grad()
                of_g = -discriminator(generator(setting.latents())).mean()
                of_g.backward()
                learns_g.step()
            learns_d.zero_grad()
            of_real = discriminator(real)
            of_fake = discriminator(generator(setting.latents()).detach())
            of_d = relu(1 - of_real).mean() + relu(1 + of_fake).mean()
            of_d.backward()
            learns_d.step()
            of_real.sigmoid().mean().item(), of_fake.sigmoid().mean().item(), of_d.item()
        decayed = 2e-4 * (1 - next(steps) / 100_000)
        for group in (*learns_g.param_groups, *learns_d.param_groups):
            group["lr"] = decayed
        of_g.item()

    return step

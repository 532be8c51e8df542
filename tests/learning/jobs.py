"What processes beside each other are given to do; a module of its own, because each of them imports it."
import torch


def odd(number: int) -> tuple[int, int]:
    if number == 7: raise ValueError("seven")
    return number, torch.get_num_threads()
